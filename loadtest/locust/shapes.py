"""Shapes: how the offered load changes over a run. Pure: steps of constant rate, and when the n-th request is due.

A shape stretches a workload's own arrivals: time in the workload runs as fast as the shape's rate, so bursts stay
bursts at every load.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DIURNAL_STEPS = 24
SPIKE_SHARE = 0.2
"""Of a spike's run: how long its peak lasts, in the middle."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the run: ``rate`` is in requests a second (or users, in a closed loop)."""

    length_s: float
    rate: float


class Shape:
    """Steps one after the other."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self._ends_s = list(itertools.accumulate(step.length_s for step in steps))
        self._sums = list(itertools.accumulate(step.length_s * step.rate for step in steps))

    @property
    def length_s(self) -> float:
        """Of the whole run."""
        return self._ends_s[-1]

    def step_at(self, second: float) -> int:
        """Which step; the last one from its end on."""
        return min(bisect.bisect_right(self._ends_s, second), len(self.steps) - 1)

    def rate_at(self, second: float) -> float:
        """Requests a second, or users."""
        return self.steps[self.step_at(second)].rate

    def due_s(self, count: float) -> float | None:
        """The second by which ``count`` requests are offered; None after the end."""
        place = bisect.bisect_left(self._sums, count)
        if place == len(self.steps):
            return None
        before = self._sums[place - 1] if place else 0.0
        began = self._ends_s[place - 1] if place else 0.0
        return began + (count - before) / self.steps[place].rate


def steady(rate: float, _peak: float, length_s: float, _steps: int) -> Shape:
    """One rate throughout."""
    return Shape([Step(length_s, rate)])


def ramp(rate: float, peak: float, length_s: float, steps: int) -> Shape:
    """From ``rate`` to ``peak`` by equal factors; a run may end early, once two steps in a row lie beyond the knee."""
    if steps < 2:
        return steady(rate, peak, length_s, steps)
    factor = (peak / rate) ** (1.0 / (steps - 1))
    return Shape([Step(length_s / steps, rate * factor**place) for place in range(steps)])


def spike(rate: float, peak: float, length_s: float, _steps: int) -> Shape:
    """``rate``, then ``peak`` for the middle fifth, then ``rate`` again."""
    calm = length_s * (1.0 - SPIKE_SHARE) / 2.0
    return Shape([Step(calm, rate), Step(length_s * SPIKE_SHARE, peak), Step(calm, rate)])


def diurnal(rate: float, peak: float, length_s: float, _steps: int) -> Shape:
    """A day in ``length_s``: a cosine from ``rate`` (night) to ``peak`` (noon) and back, in 24 steps."""
    half, middle = (peak - rate) / 2.0, (peak + rate) / 2.0
    at = [2.0 * math.pi * (place + 0.5) / DIURNAL_STEPS for place in range(DIURNAL_STEPS)]
    return Shape([Step(length_s / DIURNAL_STEPS, middle - half * math.cos(angle)) for angle in at])


SHAPES: dict[str, Callable[[float, float, float, int], Shape]] = {
    "steady": steady,
    "ramp": ramp,
    "spike": spike,
    "diurnal": diurnal,
}
"""Each from the least rate, the highest, the run's length in seconds and a number of steps (which only ramp heeds)."""
