"""How many tokens a request will produce: from its max_tokens and from what came before it.

Lengths are log-normal. The prior is the Azure conversation trace (FACTS.md: mu 5.02, sigma 0.86). What a model, a
tenant and a prompt size have produced is blended in, the broad levels first, each with the weight of its
observations. A request that ran into its max_tokens says only "at least this long" and is counted as such.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from router.domain.request import InferenceRequest

PRIOR_MU, PRIOR_SIGMA = 5.02, 0.86
PRIOR_WEIGHT = 8.0
"""Observations after which a level's own history outweighs what the level above it says."""

MEMORY = 200.0
"""Observations a level remembers: older ones fade, so that a changed workload shows."""

_SQRT2 = math.sqrt(2.0)


@dataclass(slots=True)
class _History:
    weight: float = 0.0
    mean: float = 0.0  # of ln(length)
    square: float = 0.0  # variance of ln(length)

    def add(self, value: float) -> None:
        self.weight = min(self.weight + 1.0, MEMORY)
        step = 1.0 / self.weight
        off = value - self.mean
        self.mean += step * off
        self.square += step * (off * (value - self.mean) - self.square)


class OutputLength:
    """Bounded memory: at ``capacity`` histories the one unused for longest is forgotten."""

    def __init__(self, *, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._histories: OrderedDict[tuple[str, ...], _History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._histories)

    def expect(self, request: InferenceRequest) -> float:
        """Expected output tokens, never above max_tokens nor below one."""
        limit = request.sampling.max_tokens
        if limit is not None and request.sampling.ignore_eos:
            return float(max(limit, 1))
        mu, sigma = self._fit(request)
        if limit is None:
            return max(math.exp(mu + sigma * sigma / 2.0), 1.0)
        return max(_mean_up_to(mu, sigma, float(max(limit, 1))), 1.0)

    def learn(self, request: InferenceRequest, tokens: int, *, cut_off: bool) -> None:
        """``tokens`` came; ``cut_off``: it stopped only because of max_tokens."""
        if tokens <= 0 or request.sampling.ignore_eos:
            return
        value = math.log(tokens)
        if cut_off:
            mu, sigma = self._fit(request)
            value = _mean_above(mu, sigma, value)
        for key in _levels(request):
            history = self._histories.get(key)
            if history is None:
                history = self._histories[key] = _History()
                if len(self._histories) > self._capacity:
                    self._histories.popitem(last=False)
            else:
                self._histories.move_to_end(key)
            history.add(value)

    def _fit(self, request: InferenceRequest) -> tuple[float, float]:
        mu, square = PRIOR_MU, PRIOR_SIGMA * PRIOR_SIGMA
        for key in _levels(request):
            history = self._histories.get(key)
            if history is not None:
                share = history.weight / (history.weight + PRIOR_WEIGHT)
                mu += share * (history.mean - mu)
                square += share * (history.square - square)
        return mu, math.sqrt(max(square, 1e-4))


def _levels(request: InferenceRequest) -> tuple[tuple[str, ...], ...]:
    """From broad to narrow; prompt sizes by powers of two."""
    model = request.model.name
    size = str(max(request.prompt_tokens_estimate, 1).bit_length())
    return (model,), (model, request.tenant), (model, request.tenant, size)


def _below(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / _SQRT2))


def _mean_up_to(mu: float, sigma: float, limit: float) -> float:
    """E[min(X, limit)] of a log-normal X."""
    z = (math.log(limit) - mu) / sigma
    return math.exp(mu + sigma * sigma / 2.0) * _below(z - sigma) + limit * (1.0 - _below(z))


def _mean_above(mu: float, sigma: float, value: float) -> float:
    """E[ln X | ln X > value]: what a length that was cut off there would have been."""
    z = (value - mu) / sigma
    tail = 1.0 - _below(z)
    if tail < 1e-6:
        return value
    return max(mu + sigma * math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) / tail, value)
