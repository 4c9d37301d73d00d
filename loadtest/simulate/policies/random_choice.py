"""Uniformly random choice (Envoy's RANDOM, SGLang router's ``random``)."""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.policy import Inputs, Stateless


class RandomChoice(Stateless):
    """One draw per decision, kept in the record."""

    name = "random"
    whole_pool = True

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """Which candidate the draw names."""
        del facts
        return {"drawn": np.array([float(self._rng.randrange(len(candidates)))])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """0 for the one drawn, 1 for the others."""
        del facts
        drawn = np.arange(len(candidates)) == inputs["drawn"][0]
        return Scores(np.where(drawn, 0.0, 1.0), {"drawn": drawn.astype(np.float64)})
