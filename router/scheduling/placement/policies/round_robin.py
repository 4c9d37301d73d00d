"""Round robin: each candidate in turn (nginx's default upstream method, with equal weights).

The turn is kept per instance as the number of its last turn, so a pool that changes between requests, as pools of
different models do, still takes everyone in turn.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.policy import Inputs, Stateless


class RoundRobin(Stateless):
    """Who has waited longest for a turn goes next; ties in snapshot order."""

    name = "round_robin"

    def __init__(self, *, rng: random.Random) -> None:
        del rng
        self._turn = 0
        self._last: dict[InstanceKey, int] = {}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """The number of each candidate's last turn."""
        del facts
        last = self._last
        return {"last_turn": np.array([last.get(key, 0) for key in candidates.keys], dtype=np.float64)}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """The last turn itself."""
        del candidates, facts
        return Scores(inputs["last_turn"].copy(), {"last_turn": inputs["last_turn"]})

    def dispatched(self, candidates: Candidates, index: int, facts: RequestFacts) -> None:
        """It had its turn."""
        del facts
        self._turn += 1
        self._last[candidates.keys[index]] = self._turn

    def forget(self, key: InstanceKey) -> None:
        """A worker that comes back starts at the front."""
        self._last.pop(key, None)
