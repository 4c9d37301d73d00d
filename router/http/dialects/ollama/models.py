"""The models there are, as Ollama lists, shows and runs them."""

import hashlib
from collections.abc import Mapping

import msgspec

from protos.contract.worker import ModelInstance
from router.http.dialects.ollama.answers import moment
from router.http.dialects.shared.catalogue import ModelFacts

NEVER = "9999-12-31T23:59:59Z"
"""Of a model that nothing unloads by the clock."""

_CAPABILITIES = {
    "completion": "completion",
    "tools": "tools",
    "vision": "vision",
    "reasoning": "thinking",
    "embeddings": "embedding",
}


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of model it is."""

    parent_model: str = ""
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """One model; ``digest`` tells models apart and is no hash of a file."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /api/tags``."""

    models: list[Tag]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded, which all that can be asked are."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str = NEVER
    size_vram: int
    context_length: int


class RunningList(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /api/ps``."""

    models: list[Running]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/show``."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    license: str = ""
    modified_at: str
    details: Details
    model_info: dict[str, str | int]
    capabilities: list[str]


class OllamaVersion(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /api/version``: the router's."""

    version: str


def tags(found: dict[str, ModelFacts], started_at: int) -> Tags:
    """All that are loaded."""
    return Tags(models=[_tag(one, started_at) for one in found.values() if one.instances])


def running(found: dict[str, ModelFacts], stays: Mapping[str, float], now: float) -> RunningList:
    """The same, as what runs. ``stays``: seconds until a model goes, by its name; ``now``: Unix time."""
    return RunningList(
        models=[
            Running(
                name=one.model_id,
                model=one.model_id,
                size=_size(one),
                digest=_digest(one),
                details=_details(one),
                expires_at=moment(now + stays[one.name]) if one.name in stays else NEVER,
                size_vram=_size(one),
                context_length=one.context_tokens,
            )
            for one in found.values()
            if one.instances
        ]
    )


def shown(facts: ModelFacts, started_at: int) -> Shown:
    """One of them."""
    family = _family(facts)
    first = _first(facts)
    return Shown(
        modified_at=moment(started_at),
        details=_details(facts),
        model_info={
            "general.architecture": family,
            "general.parameter_count": int(first.parameters) if first else 0,
            f"{family}.context_length": facts.context_tokens,
        },
        capabilities=[_CAPABILITIES[one] for one in facts.capabilities if one in _CAPABILITIES],
    )


def _tag(facts: ModelFacts, started_at: int) -> Tag:
    return Tag(
        name=facts.model_id,
        model=facts.model_id,
        modified_at=moment(started_at),
        size=_size(facts),
        digest=_digest(facts),
        details=_details(facts),
    )


def _first(facts: ModelFacts) -> ModelInstance | None:
    return facts.instances[0] if facts.instances else None


def _size(facts: ModelFacts) -> int:
    return max((int(one.weights_bytes) for one in facts.instances), default=0)


def _digest(facts: ModelFacts) -> str:
    return hashlib.sha256(facts.model_id.encode()).hexdigest()


def _family(facts: ModelFacts) -> str:
    first = _first(facts)
    return (first.lineage if first else "") or facts.name


def _details(facts: ModelFacts) -> Details:
    first = _first(facts)
    parameters = int(first.parameters) if first else 0
    return Details(
        format=(first.format if first else "") or "unknown",
        family=_family(facts),
        families=[_family(facts)],
        parameter_size=_in_words(parameters),
        quantization_level=", ".join(one.upper() for one in facts.quantizations),
    )


def _in_words(parameters: int) -> str:
    """As Ollama writes it.

    >>> _in_words(134_515_008), _in_words(8_030_000_000)
    ('134.52M', '8.0B')
    """
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.2f}M"
