"""Between protobuf messages and plain values. The only module of the worker that knows protobuf."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract import commands as m
from protos.contract import events as ev
from protos.contract import request as rq
from protos.contract import stream as base
from protos.contract.enrolment import ModelOffer
from protos.contract.worker import Hardware, InstanceState, Load, ModelInstance, Profile, Replica, Speed

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1

_FINISH = {
    base.FinishReason.STOP: pb.FINISH_REASON_STOP,
    base.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    base.FinishReason.ABORTED: pb.FINISH_REASON_ABORTED,
    base.FinishReason.ERROR: pb.FINISH_REASON_ERROR,
}
_REFUSAL = {code: pb.RefusalCode.Value(f"REFUSAL_CODE_{code.name}") for code in base.RefusalCode}
_STATE = {state: pb.ModelState.Value(f"MODEL_STATE_{state.name}") for state in InstanceState}
_LEAVING = {kind: pb.LeavingKind.Value(f"LEAVING_KIND_{kind.name}") for kind in ev.LeavingKind}

_LOADED_FIELDS = (
    "format",
    "bits_per_weight",
    "weights_bytes",
    "parameters",
    "active_parameters",
    "layers",
    "kv_heads",
    "head_dim_k",
    "head_dim_v",
    "context_tokens",
    "slots",
    "kv_capacity_tokens",
    "kv_bytes_per_token",
    "block_tokens",
    "tokenizer_fingerprint",
    "chat_template_fingerprint",
    "lineage",
    "tokens_per_byte",
)
_CAPABILITY_FIELDS = (
    "can_continue",
    "can_score",
    "can_embed",
    "structured_output",
    "logprobs",
    "seed",
    "can_load",
    "publishes_cache",
    "chat",
    "exact_prompt_count",
)
_LOAD_FIELDS = (
    "running",
    "waiting",
    "prefill_tokens_pending",
    "context_tokens",
    "expected_remaining_tokens",
    "kv_used",
    "step_sequence",
    "prefill_progress",
    "tokens_per_s",
    "last_step_s",
    "last_step_batch",
    "last_step_prefill_tokens",
    "last_step_prefills",
)
_SPEED_FIELDS = (
    "base_s",
    "per_sequence_s",
    "per_context_token_s",
    "prefill_tokens_per_s",
    "prefill_base_s",
    "measured",
    "effective_bandwidth_bytes_per_s",
    "measured_at_unix_s",
)
_HARDWARE_FIELDS = (
    "kind",
    "name",
    "count",
    "memory_bytes",
    "usable_memory_bytes",
    "bandwidth_bytes_per_s",
    "cores",
    "compute_capability",
    "interconnect",
    "on_battery",
    "low_power",
)
_ACCEPTED_FIELDS = ("request_id", "attempt", "prompt_tokens", "cached_tokens")
_REFUSED_FIELDS = ("request_id", "attempt", "message", "prompt_tokens", "max_tokens", "context_tokens", "parameter")
_CACHE_FIELDS = ("model", "quantization", "stored", "evicted", "cleared")
_SCORED_FIELDS = ("request_id", "logprobs", "token_ids", "error")
_EMBEDDED_FIELDS = ("request_id", "values", "prompt_tokens", "error")


def _pick(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


# ---------------------------------------------------------------- values -> protobuf


def delta(value: base.Delta) -> pb.Delta:
    """One job's new output."""
    message = pb.Delta(
        request_id=value.request_id,
        attempt=value.attempt,
        position=value.position,
        text=value.text,
        token_ids=value.token_ids,
        token_count=value.token_count,
        text_tokens=value.text_tokens,
        error=value.error,
    )
    if value.finish_reason is not None:
        message.finish_reason = _FINISH[value.finish_reason]
    if value.usage is not None:
        message.usage.CopyFrom(
            pb.Usage(
                prompt_tokens=value.usage.prompt_tokens,
                completion_tokens=value.usage.completion_tokens,
                cached_tokens=value.usage.cached_tokens,
            )
        )
    if value.logprobs:
        message.logprobs.extend(_logprob(one) for one in value.logprobs)
    return message


def _logprob(value: base.TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(
        token_id=value.token_id,
        token=value.token,
        logprob=value.logprob,
        top=[pb.TopLogprob(token_id=top.token_id, token=top.token, logprob=top.logprob) for top in value.top],
    )


def load(value: Load) -> pb.Load:
    """Load figures as of one moment."""
    return pb.Load(
        observed_at_unix_s=time.time(),
        last_command=value.last_command,
        **_pick(value, _LOAD_FIELDS),
    )


def step(deltas: Iterable[base.Delta], load_now: Load | None) -> pb.WorkerEvent:
    """One step message: deltas of many jobs, and the load when it is due."""
    message = pb.Step(deltas=[delta(one) for one in deltas])
    if load_now is not None:
        message.load.CopyFrom(load(load_now))
    return pb.WorkerEvent(step=message)


def hardware(value: Hardware) -> pb.Hardware:
    """The machine."""
    return pb.Hardware(details=dict(value.details), **_pick(value, _HARDWARE_FIELDS))


def profile(value: Profile) -> pb.Profile:
    """Who the worker is."""
    return pb.Profile(
        node=value.node,
        hardware=hardware(value.hardware),
        engine=value.engine,
        engine_version=value.engine_version,
        labels=dict(value.labels),
        platform=value.platform,
        allsorts_version=value.version,
    )


def speed(value: Speed) -> pb.Speed:
    """Measured speed, with the samples it was fitted to."""
    return pb.Speed(
        samples=[
            pb.StepSample(
                batch=one.batch,
                context_tokens=one.context_tokens,
                prefill_tokens=one.prefill_tokens,
                step_s=one.step_s,
            )
            for one in value.samples
        ],
        **_pick(value, _SPEED_FIELDS),
    )


def instance(value: ModelInstance) -> pb.ModelInstance:
    """One model on this worker, whatever its state."""
    message = pb.ModelInstance(
        model=value.model,
        quantization=value.quantization,
        state=_STATE[value.state],
        error=value.error,
        file=value.file,
        perplexity_ratio=value.perplexity_ratio,
    )
    for name, fact in _pick(value, _LOADED_FIELDS).items():
        setattr(message, name, fact)
    message.capabilities.CopyFrom(pb.Capabilities(**_pick(value.capabilities, _CAPABILITY_FIELDS)))
    if value.speed is not None:
        message.speed.CopyFrom(speed(value.speed))
    return message


def hello(
    *,
    worker_id: str,
    incarnation: str,
    profile_now: Profile,
    models: Sequence[ModelInstance],
    load_now: Load,
) -> pb.WorkerEvent:
    """The first message of a session."""
    return pb.WorkerEvent(
        hello=pb.Hello(
            protocol_version=PROTOCOL_VERSION,
            oldest_protocol_version=OLDEST_PROTOCOL_VERSION,
            worker_id=worker_id,
            incarnation=incarnation,
            profile=profile(profile_now),
            models=[instance(one) for one in models],
            load=load(load_now),
        )
    )


def event(value: ev.WorkerEvent, load_now: Load) -> pb.WorkerEvent:
    """Any event but hello and step; ``load_now`` goes along with a refusal."""
    match value:
        case base.Accepted():
            return pb.WorkerEvent(accepted=pb.Accepted(**_pick(value, _ACCEPTED_FIELDS)))
        case base.Refusal():
            facts = _pick(value, _REFUSED_FIELDS)
            refusal = pb.Refusal(code=_REFUSAL[value.code], load=load(load_now), **facts)
            return pb.WorkerEvent(refusal=refusal)
        case base.Returned():
            return pb.WorkerEvent(returned=pb.Returned(**_pick(value, ("request_id", "attempt", "reason"))))
        case ev.ModelProgress():
            progress = pb.ModelProgress(model=instance(value.model), fraction=value.fraction, message=value.message)
            return pb.WorkerEvent(model_progress=progress)
        case ev.CacheChange():
            return pb.WorkerEvent(cache=pb.CacheEvents(**_pick(value, _CACHE_FIELDS)))
        case ev.Leaving():
            return pb.WorkerEvent(leaving=pb.Leaving(kind=_LEAVING[value.kind], reason=value.reason))
        case ev.ScoreResult():
            return pb.WorkerEvent(score=pb.ScoreResult(**_pick(value, _SCORED_FIELDS)))
        case ev.EmbedResult():
            return pb.WorkerEvent(embed=pb.EmbedResult(**_pick(value, _EMBEDDED_FIELDS)))
        case ev.Pong():
            return pb.WorkerEvent(pong=pb.Pong(sequence=value.sequence))
        case _:
            raise TypeError(f"{type(value).__name__} is not queued")


def enrol_request(
    *, token: str, certificate_request: bytes, node: str, profile_now: Profile, files: Sequence[ModelInstance] = ()
) -> pb.EnrolRequest:
    """What a worker asks to be let in."""
    return pb.EnrolRequest(
        token=token,
        certificate_request=certificate_request,
        node=node,
        profile=profile(profile_now),
        protocol_version=PROTOCOL_VERSION,
        files=[instance(one) for one in files],
    )


def renew_request(certificate_request: bytes) -> pb.RenewRequest:
    """What a worker asks for a fresh certificate."""
    return pb.RenewRequest(certificate_request=certificate_request)


# ---------------------------------------------------------------- protobuf -> values


def replicas(messages: Iterable[pb.Replica]) -> tuple[Replica, ...]:
    """Router replicas, as the router lists them."""
    return tuple(Replica(replica_id=one.replica_id, address=one.address) for one in messages)


def offers(messages: Iterable[pb.ModelOffer]) -> tuple[ModelOffer, ...]:
    """Models the router offers, best first."""
    return tuple(
        ModelOffer(
            model=one.model,
            quantization=one.quantization,
            tokens_per_s=one.predicted_tokens_per_s,
            prefill_tokens_per_s=one.predicted_prefill_tokens_per_s,
            memory_bytes=one.memory_bytes,
            reason=one.reason,
        )
        for one in messages
    )


def command(message: pb.RouterCommand) -> m.RouterCommand:
    """One command; a kind this version does not know becomes ``Unknown``."""
    kind = message.WhichOneof("command")
    if kind is None or kind not in _DECODERS:
        return m.Unknown()
    return _DECODERS[kind](getattr(message, kind))


def _welcome(one: pb.Welcome) -> m.Welcome:
    names = ("replica_id", "protocol_version", "node", "load_interval_s")
    return m.Welcome(replicas=replicas(one.replicas), **_pick(one, names))


def _generate(one: pb.Generate) -> m.Generate:
    prompt: str | tuple[int, ...] = ""
    messages: tuple[rq.ChatMessage, ...] = ()
    match one.WhichOneof("prompt"):
        case "chat":
            messages = tuple(
                rq.ChatMessage(role=line.role, content=line.content, name=line.name) for line in one.chat.messages
            )
        case "text":
            prompt = one.text
        case "prompt_tokens":
            prompt = tuple(one.prompt_tokens.ids)
    job = rq.Job(
        messages=messages,
        prompt=prompt,
        sampling=_sampling(one.sampling),
        block_hashes=tuple(one.block_hashes),
        continue_from=_continue_from(one.continue_from) if one.HasField("continue_from") else None,
        **_pick(
            one,
            (
                "request_id",
                "attempt",
                "model",
                "quantization",
                "expected_output_tokens",
                "deadline_s",
                "priority",
                "return_token_ids",
            ),
        ),
    )
    return m.Generate(job=job, **_pick(one, ("draft_worker", "most_pending_tokens", "expected_prefill_tokens")))


def _sampling(one: pb.Sampling) -> rq.Sampling:
    # An unset max_tokens is 0 on the wire: the flag tells it from a budget of nothing.
    unset = one.max_tokens_unset or one.max_tokens == 0
    return rq.Sampling(
        max_tokens=None if unset else one.max_tokens,
        temperature=one.temperature,
        # proto3 sends nothing for 0; no sampler means 0 by these, so 0 is "off".
        top_p=one.top_p or 1.0,
        repetition_penalty=one.repetition_penalty or 1.0,
        seed=one.seed if one.HasField("seed") else None,
        stop=tuple(one.stop),
        **_pick(
            one,
            ("top_k", "min_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "ignore_eos"),
        ),
    )


def _continue_from(one: pb.ContinueFrom) -> rq.ContinueFrom:
    return rq.ContinueFrom(
        text=one.text,
        token_ids=tuple(one.token_ids),
        tokenizer_fingerprint=one.tokenizer_fingerprint,
        output_tokens=one.output_tokens,
    )


def _score(one: pb.Score) -> m.Score:
    names = ("request_id", "model", "quantization", "text")
    return m.Score(token_ids=tuple(one.token_ids), **_pick(one, names))


_DECODERS: dict[str, Callable[[Any], m.RouterCommand]] = {
    "welcome": _welcome,
    "generate": _generate,
    "abort": lambda one: m.Abort(request_id=one.request_id, attempt=one.attempt),
    "score": _score,
    "embed": lambda one: m.Embed(**_pick(one, ("request_id", "model", "quantization", "text"))),
    "load_model": lambda one: m.LoadModel(**_pick(one, ("model", "quantization", "path", "context_tokens", "slots"))),
    "unload_model": lambda one: m.UnloadModel(model=one.model, quantization=one.quantization),
    "drain": lambda one: m.Drain(deadline_s=one.deadline_s),
    "undrain": lambda _: m.Undrain(),
    "assign_draft": lambda one: m.AssignDraft(**_pick(one, ("model", "quantization", "draft_address", "draft_length"))),
    "replicas": lambda one: m.ReplicaList(replicas=replicas(one.replicas)),
    "ping": lambda one: m.Ping(sequence=one.sequence),
    "dismiss": lambda one: m.Dismiss(reason=one.reason, permanent=one.permanent),
}
