"""``GET /v1/models``, with what vLLM, LM Studio and OpenRouter add to it for clients that fit prompts to a context."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from router.http.dialects.shared.catalogue import ModelFacts
from router.http.dialects.shared.sampling_defaults import ModelDefaults


class ModelExtras(msgspec.Struct, frozen=True, kw_only=True):
    """Ours."""

    quantizations: list[str]
    capabilities: list[str]
    sampling: dict[str, float | int]  # where a request says nothing


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """``root``: the name without its quantization. The context is the longest there is now; left out while none is."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["allsorts"] = "allsorts"
    root: str
    parent: None = None
    max_model_len: int | UnsetType = UNSET
    context_length: int | UnsetType = UNSET
    allsorts: ModelExtras


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


def model_body(facts: ModelFacts, created: int, defaults: ModelDefaults) -> ModelBody:
    """One of them."""
    context = facts.context_tokens or UNSET
    limit = {} if defaults.max_tokens is None else {"max_tokens": defaults.max_tokens}
    sampling = {**defaults.values, **limit}
    return ModelBody(
        id=facts.model_id,
        created=created,
        root=facts.name,
        max_model_len=context,
        context_length=context,
        allsorts=ModelExtras(
            quantizations=list(facts.quantizations), capabilities=list(facts.capabilities), sampling=sampling
        ),
    )
