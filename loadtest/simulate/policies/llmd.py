"""llm-d's weighted scorers, with the weights of its default profile.

llm-d inference scheduler and Gateway API Inference Extension: queue-scorer (waiting requests, min-max normalised,
1 for all when equal) weight 2, kv-cache-utilization-scorer (1 - usage) weight 2, prefix-cache-scorer (matched share
of the prompt) weight 3; scores are summed and max-score-picker draws among the best. Metrics are the workers' own,
as old as their last report.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless

_TIE = 1e-9


class LlmD(Stateless):
    """One weight per scorer."""

    name = "llmd"
    whole_pool = True

    def __init__(self, *, rng: random.Random, queue: float = 2.0, kv_cache: float = 2.0, prefix: float = 3.0) -> None:
        self._rng = rng
        self._queue = queue
        self._kv_cache = kv_cache
        self._prefix = prefix

    def parameters(self) -> dict[str, float]:
        """The weights."""
        return {"queue": self._queue, "kv_cache": self._kv_cache, "prefix": self._prefix}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """A fraction per candidate that decides among equals only."""
        del facts
        draw = self._rng.random
        return {"tie": np.array([draw() for _ in range(len(candidates))])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """The weighted sum, negated: the highest score is picked."""
        waiting = candidates.data[Column.WAITING]
        low, high = waiting.min(), waiting.max()
        queue = np.ones(len(candidates)) if high == low else (high - waiting) / (high - low)
        kv_cache = 1.0 - candidates.data[Column.KV_USED]
        prefix = candidates.data[Column.CACHED_TOKENS] / facts.prompt_tokens
        total = self._queue * queue + self._kv_cache * kv_cache + self._prefix * prefix
        return Scores(_TIE * inputs["tie"] - total, {"queue": queue, "kv_cache": kv_cache, "prefix": prefix})
