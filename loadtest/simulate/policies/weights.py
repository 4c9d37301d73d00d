"""Static weights, as an operator writes them into a load balancer's configuration."""

from collections.abc import Mapping

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey
from router.scheduling.placement.columns import Column


class StaticWeights:
    """A weight per worker id. One that is not named gets the tokens per second that its profile promised when it
    was first seen, and keeps that weight whatever it does later: a static weight is static.
    """

    def __init__(self, weights: Mapping[str, float] | None) -> None:
        if weights and min(weights.values()) <= 0.0:
            raise ValueError("a worker's weight is above zero")
        self._given = dict(weights or {})
        self._seen: dict[InstanceKey, float] = {}

    def of(self, candidates: Candidates) -> Floats:
        """The candidates' weights."""
        return np.array([self._weight(candidates, i) for i in range(len(candidates))])

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone."""
        self._seen.pop(key, None)

    def _weight(self, candidates: Candidates, i: int) -> float:
        key = candidates.keys[i]
        given = self._given.get(key.worker_id)
        if given is not None:
            return given
        weight = self._seen.get(key)
        if weight is None:
            column, curves = candidates.data[:, i], candidates.curves
            slots = column[Column.SLOTS]
            step = column[Column.BASE_S] + slots * column[Column.PER_SEQUENCE_S]
            if curves is not None and curves.speeds[i] is not None:
                step = curves.speeds[i].step_s(slots, 0.0)
            weight = self._seen[key] = float(slots / step)
        return weight
