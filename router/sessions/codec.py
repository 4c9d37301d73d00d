"""The border between the wire and the domain: the only place in the router that sees session messages."""

from collections.abc import Iterable

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.ids import RequestId, WorkerId
from protos.contract.request import ChatMessage, Sampling
from protos.contract.stream import (
    Accepted,
    Delta,
    FinishReason,
    Refusal,
    RefusalCode,
    Returned,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from protos.contract.worker import Capabilities, Hardware, InstanceState, Load, ModelInstance, Speed, StepSample
from router.domain.request import InferenceRequest, RequestKind
from router.domain.worker import WorkerProfile
from router.sessions.validation import MAX_NAME, one_line

_FINISH = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_ABORTED: FinishReason.ABORTED,
    pb.FINISH_REASON_ERROR: FinishReason.ERROR,
}
_REFUSAL = {
    pb.REFUSAL_CODE_CONTEXT_LENGTH: RefusalCode.CONTEXT_LENGTH,
    pb.REFUSAL_CODE_INVALID: RefusalCode.INVALID,
    pb.REFUSAL_CODE_BUSY: RefusalCode.BUSY,
    pb.REFUSAL_CODE_DRAINING: RefusalCode.DRAINING,
    pb.REFUSAL_CODE_MODEL_NOT_LOADED: RefusalCode.MODEL_NOT_LOADED,
    pb.REFUSAL_CODE_UNSUPPORTED: RefusalCode.UNSUPPORTED,
    pb.REFUSAL_CODE_ENGINE_FAILED: RefusalCode.ENGINE_FAILED,
    pb.REFUSAL_CODE_CONFLICT: RefusalCode.CONFLICT,
}
_STATE = {
    pb.MODEL_STATE_LOADING: InstanceState.LOADING,
    pb.MODEL_STATE_BENCHMARKING: InstanceState.BENCHMARKING,
    pb.MODEL_STATE_READY: InstanceState.READY,
    pb.MODEL_STATE_FAILED: InstanceState.FAILED,
    pb.MODEL_STATE_UNLOADED: InstanceState.UNLOADED,
}


def hardware_from(message: pb.Hardware) -> Hardware:
    """Facts about a machine."""
    return Hardware(
        kind=message.kind,
        name=message.name,
        count=message.count,
        memory_bytes=message.memory_bytes,
        usable_memory_bytes=message.usable_memory_bytes,
        bandwidth_bytes_per_s=message.bandwidth_bytes_per_s,
        cores=message.cores,
        compute_capability=message.compute_capability,
        interconnect=message.interconnect,
        on_battery=message.on_battery,
        low_power=message.low_power,
        details=dict(message.details),
    )


def profile_from(hello: pb.Hello, worker_id: WorkerId, labels: dict[str, str], node: str = "") -> WorkerProfile:
    """Who the worker is. ``labels`` and ``node`` given at enrolment win over those it claims."""
    profile = hello.profile
    return WorkerProfile(
        worker_id=worker_id,
        incarnation=hello.incarnation,
        node=node or profile.node or worker_id,
        hardware=hardware_from(profile.hardware),
        engine=profile.engine,
        engine_version=profile.engine_version,
        labels=tuple(sorted({**profile.labels, **labels}.items())),
        platform=profile.platform,
        version=profile.allsorts_version,
        protocol_version=hello.protocol_version,
    )


def speed_from(message: pb.Speed) -> Speed:
    """Measured or declared speed parameters."""
    return Speed(
        base_s=message.base_s,
        per_sequence_s=message.per_sequence_s,
        per_context_token_s=message.per_context_token_s,
        prefill_tokens_per_s=message.prefill_tokens_per_s,
        prefill_base_s=message.prefill_base_s,
        measured=message.measured,
        samples=tuple(
            StepSample(batch=s.batch, context_tokens=s.context_tokens, prefill_tokens=s.prefill_tokens, step_s=s.step_s)
            for s in message.samples
        ),
    )


def _capabilities_from(message: pb.Capabilities) -> Capabilities:
    return Capabilities(
        can_continue=message.can_continue,
        can_score=message.can_score,
        can_embed=message.can_embed,
        structured_output=message.structured_output,
        logprobs=message.logprobs,
        seed=message.seed,
        can_load=message.can_load,
        publishes_cache=message.publishes_cache,
        chat=message.chat,
        exact_prompt_count=message.exact_prompt_count,
    )


def instance_from(message: pb.ModelInstance) -> ModelInstance:
    """One loaded (or loading, or failed) model."""
    return ModelInstance(
        model=message.model,
        quantization=message.quantization,
        format=message.format,
        bits_per_weight=message.bits_per_weight,
        weights_bytes=message.weights_bytes,
        parameters=message.parameters,
        active_parameters=message.active_parameters or message.parameters,
        layers=message.layers,
        kv_heads=message.kv_heads,
        head_dim_k=message.head_dim_k,
        head_dim_v=message.head_dim_v,
        context_tokens=message.context_tokens,
        slots=max(1, message.slots),
        kv_capacity_tokens=message.kv_capacity_tokens,
        kv_bytes_per_token=message.kv_bytes_per_token,
        block_tokens=max(1, message.block_tokens),
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        chat_template_fingerprint=message.chat_template_fingerprint,
        lineage=message.lineage,
        capabilities=_capabilities_from(message.capabilities),
        speed=speed_from(message.speed) if message.HasField("speed") else None,
        perplexity_ratio=message.perplexity_ratio,
        file=message.file,
        state=_STATE.get(message.state, InstanceState.LOADING),
        error=one_line(message.error),
        tokens_per_byte=message.tokens_per_byte,
    )


def load_from(message: pb.Load, observed_at: float) -> Load:
    """A load report; ``observed_at`` is this router's monotonic clock, the worker's own may be off."""
    return Load(
        observed_at=observed_at,
        running=message.running,
        waiting=message.waiting,
        prefill_tokens_pending=message.prefill_tokens_pending,
        context_tokens=message.context_tokens,
        expected_remaining_tokens=message.expected_remaining_tokens,
        kv_used=message.kv_used,
        step_sequence=message.step_sequence,
        last_command=message.last_command,
        prefill_progress=message.prefill_progress,
        tokens_per_s=message.tokens_per_s,
        last_step_s=message.last_step_s,
        last_step_batch=message.last_step_batch,
        last_step_prefill_tokens=message.last_step_prefill_tokens,
        last_step_prefills=message.last_step_prefills,
    )


def _logprob_from(message: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        token_id=message.token_id,
        token=message.token,
        logprob=message.logprob,
        top=tuple(TopLogprob(token_id=t.token_id, token=t.token, logprob=t.logprob) for t in message.top),
    )


def delta_from(message: pb.Delta) -> Delta:
    """New output of one attempt. Hot: once per request and engine step."""
    finish = _FINISH.get(message.finish_reason)
    usage = None
    if finish is not None:
        counted = message.usage
        usage = Usage(
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            cached_tokens=counted.cached_tokens,
        )
    return Delta(
        request_id=RequestId(message.request_id),
        attempt=message.attempt,
        position=message.position,
        text=message.text,
        token_ids=tuple(message.token_ids),
        token_count=message.token_count,
        text_tokens=message.text_tokens,
        finish_reason=finish,
        usage=usage,
        logprobs=tuple(_logprob_from(p) for p in message.logprobs) if message.logprobs else (),
        error=one_line(message.error),
    )


def refusal_from(message: pb.Refusal) -> Refusal:
    """A worker's no."""
    return Refusal(
        request_id=RequestId(message.request_id),
        attempt=message.attempt,
        code=_REFUSAL.get(message.code, RefusalCode.BUSY),
        message=one_line(message.message),
        prompt_tokens=message.prompt_tokens,
        max_tokens=message.max_tokens,
        context_tokens=message.context_tokens,
        parameter=one_line(message.parameter, MAX_NAME),
    )


def accepted_from(message: pb.Accepted) -> Accepted:
    """The worker's exact count."""
    return Accepted(
        request_id=RequestId(message.request_id),
        attempt=message.attempt,
        prompt_tokens=message.prompt_tokens,
        cached_tokens=message.cached_tokens,
    )


def returned_from(message: pb.Returned) -> Returned:
    """A request given back."""
    return Returned(request_id=RequestId(message.request_id), attempt=message.attempt, reason=one_line(message.reason))


def _chat_to(messages: Iterable[ChatMessage]) -> pb.Chat:
    return pb.Chat(messages=[pb.ChatMessage(role=m.role, content=m.content, name=m.name) for m in messages])


def _sampling_to(sampling: Sampling, max_tokens: int | None) -> pb.Sampling:
    message = pb.Sampling(
        max_tokens=max_tokens or 0,
        max_tokens_unset=max_tokens is None,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        stop=sampling.stop,
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs,
        ignore_eos=sampling.ignore_eos,
    )
    if sampling.seed is not None:
        message.seed = sampling.seed
    return message


def generate_to(
    request: InferenceRequest,
    *,
    attempt: int,
    quantization: str,
    max_tokens: int | None,
    deadline_s: float,
    return_token_ids: bool,
    continue_from: pb.ContinueFrom | None = None,
    most_pending_tokens: int = 0,
    expected_prefill_tokens: int = 0,
) -> pb.Generate:
    """The command that starts one attempt. ``max_tokens`` is what is left of the client's budget;
    ``most_pending_tokens`` the condition under which the choice is good, 0 for none.
    """
    message = pb.Generate(
        request_id=request.request_id,
        attempt=attempt,
        model=request.model.name,
        quantization=quantization,
        sampling=_sampling_to(request.sampling, max_tokens),
        block_hashes=request.block_hashes,
        expected_output_tokens=request.expected_output_tokens,
        deadline_s=deadline_s,
        priority=request.priority,
        return_token_ids=return_token_ids,
        prompt_bytes=request.prompt_bytes,
        most_pending_tokens=most_pending_tokens,
        expected_prefill_tokens=expected_prefill_tokens,
    )
    if request.kind is RequestKind.CHAT:
        message.chat.CopyFrom(_chat_to(request.messages))
    elif isinstance(request.prompt, str):
        message.text = request.prompt
    else:
        message.prompt_tokens.ids.extend(request.prompt)
    if continue_from is not None:
        message.continue_from.CopyFrom(continue_from)
    return message


def continue_from_to(
    *, text: str, token_ids: tuple[int, ...], tokenizer_fingerprint: str, output_tokens: int
) -> pb.ContinueFrom:
    """What the client already has."""
    return pb.ContinueFrom(
        text=text,
        token_ids=token_ids,
        tokenizer_fingerprint=tokenizer_fingerprint,
        output_tokens=output_tokens,
    )
