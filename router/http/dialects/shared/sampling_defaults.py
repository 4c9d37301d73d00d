"""How a request is sampled where it says nothing: as the operator says for the model, else as the model's own file
does, else as llama.cpp does.

Decided once, where the request arrives: a stream that moves to another worker goes on as it began.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protos.contract.request import Sampling
from protos.contract.worker import InstanceState, ModelInstance, SamplingDefaults
from router.config import SamplingConfig
from router.domain.snapshot import FleetSnapshot

ESTIMATE_MARGIN = 2.0
"""An estimate may be half of what a worker then counts; a default must not have a prompt refused that fits."""

USUAL: Mapping[str, float | int] = {
    "temperature": 0.8,
    "top_p": 0.95,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.0,
}
"""llama.cpp's, for a model whose file says nothing."""

KEPT_S = 1.0
CAPACITY = 1024

EVERY_MODEL = "*"
"""The operator's word for all models; what he says of one comes before it."""


def unset(**given: object) -> frozenset[str]:
    """Names of those that a request leaves open.

    >>> sorted(unset(temperature=0.0, top_p=None, top_k=None))
    ['top_k', 'top_p']
    """
    return frozenset(name for name, value in given.items() if value is None)


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Of one model. ``max_tokens`` None: as many as the context leaves, or the dialect's own default."""

    values: Mapping[str, float | int]
    max_tokens: int | None = None
    context_tokens: int = 0  # the longest there is; 0: not known

    def filled(self, sampling: Sampling, open_names: frozenset[str], prompt_tokens: int) -> Sampling:
        """The request's sampling, with what it leaves open. ``prompt_tokens`` is an estimate: where it says that an
        answer of the usual length would not fit, none is set, and the answer may take what the context leaves.
        """
        values: dict[str, Any] = {name: value for name, value in self.values.items() if name in open_names}
        most = self.max_tokens
        if most is not None and "max_tokens" in open_names and self._leaves(most, prompt_tokens):
            values["max_tokens"] = max(most, sampling.min_tokens)
        return replace(sampling, **values) if values else sampling

    def _leaves(self, answer: int, prompt_tokens: int) -> bool:
        return not self.context_tokens or prompt_tokens * ESTIMATE_MARGIN + answer <= self.context_tokens


class DefaultsBook:
    """The defaults of models, each looked up in the fleet at most once in ``KEPT_S``: not with every request."""

    def __init__(self, configured: Mapping[str, SamplingConfig]) -> None:
        self._configured = configured
        self._known: dict[str, tuple[float, ModelDefaults]] = {}

    def of(self, model: str, fleet: FleetSnapshot, now: float) -> ModelDefaults:
        """As they were at most so long ago."""
        at, found = self._known.get(model, (-math.inf, None))
        if found is not None and now - at < KEPT_S:
            return found
        if len(self._known) >= CAPACITY:
            self._known.clear()
        found = defaults_of(model, fleet, self._configured)
        self._known[model] = now, found
        return found


def defaults_of(model: str, fleet: FleetSnapshot, configured: Mapping[str, SamplingConfig]) -> ModelDefaults:
    """As they are now."""
    return defaults_among(tuple(_loaded(model, fleet)), model, configured)


def defaults_among(
    loaded: Sequence[ModelInstance], model: str, configured: Mapping[str, SamplingConfig]
) -> ModelDefaults:
    """Of a model whose instances are at hand: a list of all models would else search the fleet for each of them."""
    values: dict[str, float | int] = dict(USUAL)
    values.update(_told(_own(loaded)))
    max_tokens: int | None = None
    for name in (EVERY_MODEL, model):
        said = configured.get(name)
        if said is not None:
            values.update({one: value for one in USUAL if (value := getattr(said, one)) is not None})
            max_tokens = max_tokens if said.max_tokens is None else said.max_tokens
    context = max((one.context_tokens for one in loaded), default=0)
    return ModelDefaults(values, max_tokens, context)


def _own(loaded: Sequence[ModelInstance]) -> SamplingDefaults | None:
    """Every quantization of a model says the same; the first that is loaded and says anything is believed."""
    return next((one.sampling for one in loaded if one.sampling is not None), None)


def _loaded(model: str, fleet: FleetSnapshot) -> Iterator[ModelInstance]:
    for worker in fleet.workers:
        for instance in worker.models:
            if instance.model == model and instance.state is InstanceState.READY:
                yield instance


def _told(own: SamplingDefaults | None) -> dict[str, float | int]:
    if own is None:
        return {}
    return {name: value for name in USUAL if (value := getattr(own, name)) is not None}
