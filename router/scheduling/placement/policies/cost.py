"""Ours: the lowest predicted cost in seconds (``router.scheduling.placement.cost``)."""

import random
from dataclasses import asdict

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.cost import CostWeights, score
from router.scheduling.placement.policy import Inputs, Stateless


class CostPolicy(Stateless):
    """Parameters are those of CostWeights."""

    name = "cost"

    def __init__(self, *, rng: random.Random, **weights: float) -> None:
        self._rng = rng
        if "replicas" in weights:
            weights["replicas"] = int(weights["replicas"])
        self._weights = CostWeights(**weights)  # type: ignore[arg-type]

    def parameters(self) -> dict[str, float]:
        """The weights."""
        return {name: float(value) for name, value in asdict(self._weights).items()}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """None."""
        del candidates, facts
        return {}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """The cost with all its terms."""
        del inputs
        return score(candidates, facts, self._weights)
