"""A stretch of engine steps with the same batch: closed forms between step numbers and times."""

import math

from workers.engines.simulated.batch.sequence import Sequence_

_ROUNDING = 1e-9
"""A boundary reached up to so many steps counts as reached: times are sums of floats."""


class Segment:
    """Step j (from 0) takes ``step_s + j * growth_s``: contexts grow by a token a sequence and step."""

    __slots__ = ("_starts_at", "batch", "ends_at", "growth_s", "prefill", "step_s", "steps")

    def __init__(
        self,
        starts_at: float,
        steps: int,
        step_s: float,
        growth_s: float,
        prefill: "tuple[()] | list[tuple[Sequence_, int]]",
        batch: int,
    ) -> None:
        self._starts_at = starts_at
        self.steps = steps
        self.step_s = step_s
        self.growth_s = growth_s
        self.prefill = prefill
        self.batch = batch
        self.ends_at = self.at(steps)

    @property
    def starts_at(self) -> float:
        """Moving it moves the end."""
        return self._starts_at

    @starts_at.setter
    def starts_at(self, value: float) -> None:
        self._starts_at = value
        self.ends_at = self.at(self.steps)

    def at(self, step: int) -> float:
        """When so many steps are done."""
        return self._starts_at + step * self.step_s + self.growth_s * step * (step - 1) / 2.0

    def done(self, now: float) -> int:
        """Whole steps done by ``now``."""
        if now >= self.ends_at:
            return self.steps
        elapsed = now - self._starts_at
        if elapsed <= 0.0:
            return 0
        half = self.growth_s / 2.0
        if half * self.steps < 1e-12 * self.step_s:
            done = elapsed / self.step_s
        else:
            linear = self.step_s - half
            done = (math.sqrt(linear * linear + 4.0 * half * elapsed) - linear) / (2.0 * half)
        return min(int(done + _ROUNDING), self.steps)

    def cut(self, now: float) -> None:
        """End with the step that runs at ``now``."""
        steps = min(self.done(now) + 1, self.steps)
        if steps < self.steps:
            self.steps = steps
            self.ends_at = self.at(steps)

    def skip(self, done: int) -> None:
        """Begin ``done`` steps later, because those were written down."""
        starts_at = self.at(done)
        self.steps -= done
        self.step_s += done * self.growth_s
        self._starts_at = starts_at
        self.ends_at = self.at(self.steps)
