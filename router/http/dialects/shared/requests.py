"""A client's wish into requests of the router's own: one for each prompt and choice.

An engine that has a prompt in its cache computes it once, and placement sends equal prompts to the same worker: several
answers cost no more than an engine that knew of them together would take, and every engine can give them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, EmbeddingInputs
from protos.contract.tools import Tooling
from router.domain.principal import Principal
from router.domain.request import InferenceRequest, ModelRef, RequestKind
from router.errors import InvalidRequest
from router.http.dialects.shared.model_name import parse_floor, parse_model
from router.http.dialects.shared.prompt_size import TextFacts, facts_of
from router.http.dialects.shared.sampling_defaults import ModelDefaults
from router.http.dialects.shared.wish import Prompt, Wish
from router.scheduling.placement.quality import Quality
from router.scheduling.placement.text_blocks import hash_chain, serialise

MAX_ANSWERS = 128
"""Prompts times choices of one HTTP request."""

SEED_BITS = 2**63 - 1
"""A seed is any 64-bit number to a client; engines take it without a sign."""


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
    defaults: Callable[[str], ModelDefaults]  # of a model's sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of a wish. ``prompt_index``: which prompt it answers."""

    request: InferenceRequest
    prompt_index: int
    text: TextFacts  # of the prompt, for whoever learns from its exact count


def requests_of(wish: Wish, arrival: Arrival, quality: Quality) -> tuple[Asked, ...]:
    """In the order of the answers: all choices of the first prompt first. Raises InvalidRequest."""
    contents: tuple[Prompt | tuple[ChatMessage, ...] | EmbeddingInputs, ...]
    contents = (wish.messages,) if wish.is_chat else wish.prompts
    if wish.embedding is not None:
        contents = (wish.embedding,)
    if len(contents) * wish.choices > MAX_ANSWERS:
        raise InvalidRequest(
            f"Too many answers wanted: {len(contents)} prompts times {wish.choices} choices; at most {MAX_ANSWERS}",
            param="n" if wish.choices > 1 else "prompt",
        )
    model = _model(wish, arrival, quality)
    asked: list[Asked] = []
    for prompt_index, content in enumerate(contents):
        one = _asked(wish, arrival, model, content, prompt_index)
        for choice in range(wish.choices):
            asked.append(_numbered(one, len(asked), choice))
    return tuple(asked)


def _numbered(one: Asked, number: int, choice: int) -> Asked:
    """The first keeps the HTTP request's id; choices of a seeded request differ, and come out the same again."""
    if number == 0:
        return one
    request, seed = one.request, one.request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=(seed + choice) & SEED_BITS)
    request_id = RequestId(f"{request.request_id}-{number}")
    return replace(one, request=replace(request, request_id=request_id, sampling=sampling))


def _asked(
    wish: Wish,
    arrival: Arrival,
    model: ModelRef,
    content: Prompt | tuple[ChatMessage, ...] | EmbeddingInputs,
    prompt_index: int,
) -> Asked:
    principal = arrival.principal
    longest = arrival.longest_s if wish.deadline_s is None else min(wish.deadline_s, arrival.longest_s)
    serial = _serial(content, wish.tooling)
    text = facts_of(serial, len(wish.messages))
    tokens = _token_count(content)
    estimate = arrival.estimate(model.name, text) if tokens is None else tokens
    sampling = wish.sampling
    if wish.unset:
        sampling = arrival.defaults(model.name).filled(sampling, wish.unset, estimate)
    request = InferenceRequest(
        request_id=arrival.request_id,
        kind=_kind(wish),
        model=model,
        messages=wish.messages,
        prompt="" if wish.is_chat or isinstance(content, EmbeddingInputs) else _prompt(content),
        embedding=wish.embedding,
        tooling=wish.tooling,
        grammar=wish.grammar,
        template_arguments=wish.template_arguments,
        sampling=sampling,
        tenant=principal.tenant,
        priority=_priority(wish.priority, principal),
        slo=wish.slo or principal.slo,
        cache_salt=principal.cache_salt,
        required_labels=principal.required_labels,
        prompt_bytes=len(serial),
        block_hashes=() if wish.embedding is not None else hash_chain(serial, principal.cache_salt),
        prompt_tokens_estimate=estimate,
        arrived_at=arrival.arrived_at,
        deadline_at=arrival.arrived_at + longest,
        never_quantized=principal.never_quantized,
    )
    return Asked(request=request, prompt_index=prompt_index, text=text)


def _kind(wish: Wish) -> RequestKind:
    if wish.embedding is not None:
        return RequestKind.EMBEDDING
    return RequestKind.CHAT if wish.is_chat else RequestKind.COMPLETION


def _serial(content: Prompt | tuple[ChatMessage, ...] | EmbeddingInputs, tooling: Tooling | None) -> bytes:
    if isinstance(content, EmbeddingInputs):
        return b"".join(serialise(one) for one in content.inputs)
    return serialise(content, tooling)


def _prompt(content: Prompt | tuple[ChatMessage, ...]) -> Prompt:
    if isinstance(content, str):
        return content
    return tuple(one for one in content if isinstance(one, int))


def _token_count(content: Prompt | tuple[ChatMessage, ...] | EmbeddingInputs) -> int | None:
    """Of token ids, which need no guess."""
    if isinstance(content, EmbeddingInputs):
        ids = [one for one in content.inputs if not isinstance(one, str)]
        return sum(len(one) for one in ids) if len(ids) == len(content.inputs) else None
    if isinstance(content, str) or (content and isinstance(content[0], ChatMessage)):
        return None
    return len(content)


def _model(wish: Wish, arrival: Arrival, quality: Quality) -> ModelRef:
    """Floors from the name, the ``quality`` field or header, and the key: the strictest counts. Where neither name nor
    field nor header says anything, the model's default stands for them.
    """
    model = parse_model(wish.model)
    wanted = arrival.quality_header if wish.quality is None else wish.quality
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
