"""Smooth weighted round robin, as nginx does it since 1.3.1.

nginx commit 52327e0627f4 "Upstream: smooth weighted round-robin balancing": at each choice every candidate's current
weight grows by its weight, the greatest is chosen and reduced by the sum of all weights. Weights 5, 1, 1 give the
sequence a a b a c a a.
"""

import random
from collections.abc import Mapping

import numpy as np

from loadtest.simulate.policies.weights import StaticWeights
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.policy import Inputs, Stateless


class WeightedRoundRobin(Stateless):
    """``weights``: by worker id; see StaticWeights for the others."""

    name = "weighted_round_robin"

    def __init__(self, *, rng: random.Random, weights: Mapping[str, float] | None = None) -> None:
        del rng
        self._weights = StaticWeights(weights)
        self._current: dict[InstanceKey, float] = {}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """Weights and current weights."""
        del facts
        current = self._current
        return {
            "weight": self._weights.of(candidates),
            "current_weight": np.array([current.get(key, 0.0) for key in candidates.keys]),
        }

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """The raised current weight, negated: the greatest is chosen."""
        del candidates, facts
        raised = inputs["current_weight"] + inputs["weight"]
        return Scores(-raised, {"weight": inputs["weight"], "current_weight": raised})

    def dispatched(self, candidates: Candidates, index: int, facts: RequestFacts) -> None:
        """Raise all, lower the chosen by the sum of weights."""
        del facts
        weights = self._weights.of(candidates)
        for key, weight in zip(candidates.keys, weights.tolist(), strict=True):
            self._current[key] = self._current.get(key, 0.0) + weight
        self._current[candidates.keys[index]] -= float(weights.sum())

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone."""
        self._weights.forget(key)
        self._current.pop(key, None)
