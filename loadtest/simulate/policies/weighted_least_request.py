"""Weighted least request: the fewest outstanding requests for a worker's weight.

Envoy, LeastRequestLbConfig: ``weight = load_balancing_weight / (active_requests + 1) ^ active_request_bias``. Where
Envoy schedules by that weight, the greatest is taken here, as HAProxy's leastconn does ((inflight + 1) / weight).
Bias 0 looks at weights alone. Given the true capacities as weights this is the best policy that does not learn.
"""

import random
from collections.abc import Mapping

import numpy as np

from loadtest.simulate.policies.weights import StaticWeights
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless


class WeightedLeastRequest(Stateless):
    """``weights``: by worker id; ``active_request_bias``: Envoy's, 1 by default."""

    name = "weighted_least_request"

    def __init__(
        self, *, rng: random.Random, weights: Mapping[str, float] | None = None, active_request_bias: float = 1.0
    ) -> None:
        if active_request_bias < 0.0:
            raise ValueError(f"active_request_bias is at least 0, not {active_request_bias}")
        del rng
        self._weights = StaticWeights(weights)
        self._bias = active_request_bias

    def parameters(self) -> dict[str, float]:
        """The bias; weights are in the record's inputs."""
        return {"active_request_bias": self._bias}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """The weights."""
        del facts
        return {"weight": self._weights.of(candidates)}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """(outstanding + 1) ^ bias over weight; the least is Envoy's greatest weight."""
        del facts
        outstanding = candidates.data[Column.OUTSTANDING]
        cost = np.power(outstanding + 1.0, self._bias) / inputs["weight"]
        return Scores(cost, {"outstanding": outstanding, "weight": inputs["weight"]})

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone."""
        self._weights.forget(key)
