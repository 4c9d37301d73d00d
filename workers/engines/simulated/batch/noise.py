"""How step times scatter: each step by itself, and slowly, as a machine's speed wanders with whatever else it does.

The slow part is an Ornstein-Uhlenbeck process (Uhlenbeck and Ornstein, 1930): its value fades with ``drift_s`` and is
spread by ``drift`` in the long run. It matters for waiting: slow seconds that come together make queues, single slow
steps do not.
"""

import math
import random

from workers.engines.simulated.parameters import EngineParameters

MIN_SHARE = 0.2
"""No step takes less than this share of its time."""


class Noise:
    """Draws factors of step times; the same ``rng`` gives the same run."""

    def __init__(self, parameters: EngineParameters, rng: random.Random) -> None:
        self._step = parameters.noise
        self._drift = parameters.drift
        self._drift_s = parameters.drift_s
        self._rng = rng
        self._slow = rng.gauss(0.0, self._drift) if self._drift > 0 else 0.0
        self._at = 0.0

    def factor(self, now: float, steps: int) -> float:
        """The mean factor of so many steps from ``now`` on. ``now`` never goes back."""
        if self._drift > 0:
            self._wander(now)
        return max(self._rng.gauss(1.0, self._step / math.sqrt(steps)), MIN_SHARE) * max(1.0 + self._slow, MIN_SHARE)

    def _wander(self, now: float) -> None:
        kept = math.exp(-max(now - self._at, 0.0) / self._drift_s)
        self._slow = self._slow * kept + self._rng.gauss(0.0, self._drift * math.sqrt(1.0 - kept * kept))
        self._at = now
