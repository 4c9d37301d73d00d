"""A policy as somebody new would write it: the fewest prompt tokens waiting for prefill, a coin for equals."""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless


class ShortestPrefill(Stateless):
    """Blind to speed. What it draws is an input, so that a record can be computed again."""

    name = "shortest_prefill"

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """A fraction of a token for each candidate."""
        del facts
        return {"coin": np.array([self._rng.random() for _ in candidates.keys])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """Tokens before this prompt."""
        del facts
        pending = candidates.data[Column.PREFILL_PENDING] + candidates.data[Column.INFLIGHT_PREFILL]
        return Scores(pending + inputs["coin"], {"pending": pending})
