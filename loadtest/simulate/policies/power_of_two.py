"""Power of two choices: draw two different candidates, take the less loaded.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 12(10), 2001); SGLang router's
``power_of_two`` and Envoy's LEAST_REQUEST with ``choice_count`` 2. Load is the router's count of outstanding
requests; of two equals the first drawn is taken.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless


class PowerOfTwo(Stateless):
    """``choices``: how many are drawn, 2 as published."""

    name = "power_of_two"
    whole_pool = True

    def __init__(self, *, rng: random.Random, choices: float = 2) -> None:
        if choices < 1:
            raise ValueError(f"power_of_two draws at least one candidate, not {choices}")
        self._rng = rng
        self._choices = int(choices)

    def parameters(self) -> dict[str, float]:
        """How many are drawn."""
        return {"choices": float(self._choices)}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """For each candidate its place in the draw, infinite when not drawn."""
        del facts
        place = np.full(len(candidates), np.inf)
        for order, i in enumerate(self._rng.sample(range(len(candidates)), min(self._choices, len(candidates)))):
            place[i] = order
        return {"draw": place}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """Outstanding requests of those drawn; the order of drawing decides among equals."""
        del facts
        outstanding = candidates.data[Column.OUTSTANDING]
        draw = inputs["draw"]
        return Scores(outstanding + draw / (self._choices + 1.0), {"outstanding": outstanding, "draw": draw})
