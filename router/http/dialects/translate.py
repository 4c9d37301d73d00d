"""A client's request, typed and within bounds, into the router's own terms. Rules between fields are checked here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Sampling
from router.domain.principal import Principal
from router.domain.request import InferenceRequest, ModelRef, RequestKind, SloTargets
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.model_name import parse_floor, parse_model
from router.http.dialects.prompt_size import TextFacts, facts_of
from router.http.dialects.schemas import ChatRequest, CompletionRequest, GenerationFields, Message, Slo
from router.http.dialects.unsupported import refuse_unsupported, refuse_unsupported_in_message
from router.scheduling.placement.quality import Quality
from router.scheduling.placement.text_blocks import hash_chain, serialise

_SEED_BITS = 2**63 - 1
"""A seed is any 64-bit number to a client; engines take it without a sign."""

_ROLES = {"developer": "system"}
"""Chat templates know the older name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request and how its answer is to be delivered."""

    request: InferenceRequest
    stream: bool
    include_usage: bool
    text: TextFacts  # of the prompt, for whoever learns from its exact count


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known of a request besides its body."""

    request_id: RequestId
    principal: Principal
    arrived_at: float  # monotonic
    longest_s: float  # the server's own deadline
    quality_header: str | None = None
    estimate: Callable[[str, TextFacts], int]  # tokens of a prompt for a model
    model_floors: Mapping[str, str] = field(default_factory=dict)  # canonical, of models that have a default


def chat_call(body: ChatRequest, arrival: Arrival, quality: Quality) -> Call:
    """Raises InvalidRequest naming the parameter at fault."""
    refuse_unsupported(body)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise InvalidRequest(
            "Give 'max_completion_tokens' or 'max_tokens', not two different ones", param="max_completion_tokens"
        )
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    sampling = _sampling(body, limit, body.top_logprobs or 0 if body.logprobs else None)
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(body.messages))
    return _call(body, arrival, quality, sampling, messages)


def completion_call(body: CompletionRequest, arrival: Arrival, quality: Quality) -> Call:
    """Raises InvalidRequest naming the parameter at fault."""
    refuse_unsupported(body)
    # OpenAI's default for this endpoint, unlike the chat's, is a short answer.
    limit = 16 if body.max_tokens is None else body.max_tokens
    return _call(body, arrival, quality, _sampling(body, limit, body.logprobs), _prompt(body.prompt))


def _call(
    body: GenerationFields,
    arrival: Arrival,
    quality: Quality,
    sampling: Sampling,
    content: tuple[ChatMessage, ...] | str | tuple[int, ...],
) -> Call:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true", param="stream_options")
    options = body.stream_options
    serial = serialise(content)
    text = facts_of(serial, len(content) if isinstance(body, ChatRequest) else 0)
    request = _request(body, arrival, quality, sampling, content, serial, text)
    include_usage = bool(options and options.include_usage)
    return Call(request=request, stream=bool(body.stream), include_usage=include_usage, text=text)


def _request(
    body: GenerationFields,
    arrival: Arrival,
    quality: Quality,
    sampling: Sampling,
    content: tuple[ChatMessage, ...] | str | tuple[int, ...],
    serial: bytes,
    text: TextFacts,
) -> InferenceRequest:
    principal = arrival.principal
    longest = arrival.longest_s if body.deadline_s is None else min(body.deadline_s, arrival.longest_s)
    model = _model(body, arrival, quality)
    chat = isinstance(body, ChatRequest)
    counted = not chat and isinstance(content, tuple)  # token ids
    return InferenceRequest(
        request_id=arrival.request_id,
        kind=RequestKind.CHAT if chat else RequestKind.COMPLETION,
        model=model,
        messages=cast("tuple[ChatMessage, ...]", content) if chat else (),
        prompt="" if chat else cast("str | tuple[int, ...]", content),
        sampling=sampling,
        tenant=principal.tenant,
        priority=_priority(body.priority, principal),
        slo=_slo(body.slo) or principal.slo,
        required_labels=principal.required_labels,
        prompt_bytes=len(serial),
        block_hashes=hash_chain(serial),
        prompt_tokens_estimate=len(content) if counted else arrival.estimate(model.name, text),
        arrived_at=arrival.arrived_at,
        deadline_at=arrival.arrived_at + longest,
        never_quantized=principal.never_quantized,
    )


def _model(body: GenerationFields, arrival: Arrival, quality: Quality) -> ModelRef:
    """Floors from the name, the ``quality`` field or header, and the key: the strictest counts. Where neither name nor
    field nor header says anything, the model's default stands for them.
    """
    model = parse_model(body.model)
    wanted = arrival.quality_header if body.quality is None else body.quality
    if wanted is not None:
        floor = parse_floor(wanted.removeprefix(">="), param="quality")
        if model.pinned:
            raise InvalidRequest(f"The model name pins {model.pinned}; leave 'quality' out", param="quality")
        model = replace(model, floor=_stricter(model.floor, floor, quality))
    if model.floor is None and not model.pinned:
        model = replace(model, floor=arrival.model_floors.get(model.name))
    if arrival.principal.quality_floor:
        model = replace(model, floor=_stricter(model.floor, arrival.principal.quality_floor, quality))
    return model


def _stricter(one: str | None, other: str | None, quality: Quality) -> str | None:
    if not one or not other:
        return one or other
    return one if quality.at_least(one, other) else other


def _priority(wanted: int | None, principal: Principal) -> int:
    """A key's holder may step back, not push ahead of what the operator gave it."""
    if wanted is None:
        return principal.priority
    return min(wanted, principal.priority) if principal.key_id else wanted


def _slo(slo: Slo | None) -> SloTargets | None:
    if slo is None:
        return None
    return SloTargets(ttft_s=slo.ttft_s, ttft_per_prompt_token_s=slo.ttft_per_prompt_token_s or 0.0, tpot_s=slo.tpot_s)


def _sampling(body: GenerationFields, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """``logprobs``: how many rivals of each token; None: no log-probabilities."""
    stop = body.stop
    return Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(0, body.top_k or 0),  # -1 and 0 both mean: off
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        seed=None if body.seed is None else body.seed & _SEED_BITS,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
        ignore_eos=bool(body.ignore_eos),
    )


def _message(message: Message, where: str) -> ChatMessage:
    refuse_unsupported_in_message(message, where)
    return ChatMessage(
        role=_ROLES.get(message.role, message.role), content=_content(message, where), name=message.name or ""
    )


def _content(message: Message, where: str) -> str:
    content = message.content
    if content is None:
        raise InvalidRequest(f"Missing required parameter: '{where}.content'", param=f"{where}.content")
    if isinstance(content, str):
        return content
    for index, part in enumerate(content):
        name = f"{where}.content[{index}]"
        if part.type != "text":
            raise UnsupportedParameter(f"Unsupported content type in '{name}': only text is served", param=name)
        if part.text is None:
            raise InvalidRequest(f"Missing required parameter: '{name}.text'", param=f"{name}.text")
    return "".join(part.text or "" for part in content)


def _prompt(prompt: str | list[int | str | list[int]]) -> str | tuple[int, ...]:
    """One prompt: text, token ids, or a list that holds one of these."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and not isinstance(prompt[0], int):
        only = prompt[0]
        if isinstance(only, list) and not only:
            raise InvalidRequest("Invalid value for 'prompt': no token ids in it", param="prompt")
        return only if isinstance(only, str) else tuple(only)
    ids = tuple(item for item in prompt if isinstance(item, int))
    if len(ids) == len(prompt):
        return ids
    raise UnsupportedParameter(
        "Unsupported value for 'prompt': one prompt per request is served so far; send several requests",
        param="prompt",
    )
