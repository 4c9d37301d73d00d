"""Recursive least squares with forgetting for a handful of parameters, in relative terms.

What is estimated are multipliers on a prior, all 1 at the start. Working in ratios makes one set of constants fit a
machine that takes 4 ms per step and one that takes 400. The covariance starts with a strong common part: a machine
that turns out slow in one respect is expected to be slow in all, until each direction has its own evidence.
Forgetting adds a little variance per observation (the Kalman form), so that directions nobody excites do not wind
up as they do under exponential forgetting. Plain floats: at this size they are faster than arrays.
"""

import math
from collections.abc import Sequence

NOISE = 0.05
"""Relative standard deviation of one observed step: timer and scheduling jitter of engines."""

COMMON_VARIANCE = 0.25
OWN_VARIANCE = 0.04
"""Prior: a profile may be off by half altogether, and by a fifth in any one parameter."""

COMMON_DRIFT = 2e-4
OWN_DRIFT = 2e-5
"""Variance forgotten per observation: the estimate remembers some tens of observations."""

LOWEST, HIGHEST = 0.02, 50.0
"""Multipliers outside these are a fault of measuring, not of the machine."""

OUTLIER = 4.0
"""An innovation of so many standard deviations is set aside..."""

CHANGE_AFTER = 4
"""...unless so many come in a row on the same side: then the machine has changed."""


class RelativeLeastSquares:
    """Estimates multipliers ``m`` in ``y = sum(m[i] * x[i])`` where ``x`` are the prior's contributions.

    A machine whose steps take twice what its parameters say:

    >>> rls = RelativeLeastSquares(2)
    >>> for batch in (1, 2, 4, 8) * 20:
    ...     _ = rls.observe((0.01, 0.001 * batch), 2 * (0.01 + 0.001 * batch))
    >>> [round(float(one), 1) for one in rls.multipliers]
    [2.0, 2.0]
    """

    def __init__(self, size: int) -> None:
        self.multipliers = [1.0] * size
        self.observations = 0
        self._covariance = [
            [COMMON_VARIANCE + (OWN_VARIANCE if i == j else 0.0) for j in range(size)] for i in range(size)
        ]
        self._suspects = 0  # outliers in a row; the sign is the side

    def observe(self, contributions: Sequence[float], measured: float) -> bool:
        """Learn from one measurement; False when it was set aside as an outlier or makes no sense."""
        predicted = sum(m * x for m, x in zip(self.multipliers, contributions, strict=True))
        if not (measured > 0.0 and predicted > 0.0 and math.isfinite(measured)):
            return False
        share = [x / predicted for x in contributions]
        error = measured / predicted - 1.0
        gain_base, variance = self._forecast_variance(share)
        if error * error > OUTLIER * OUTLIER * variance and not self._is_change(error):
            return False
        if abs(self._suspects) >= CHANGE_AFTER:
            self._widen(error)
        else:
            self._update(gain_base, variance, error)
        self._suspects = 0
        self.observations += 1
        return True

    def _forecast_variance(self, share: Sequence[float]) -> tuple[list[float], float]:
        gain_base = [sum(c * h for c, h in zip(row, share, strict=True)) for row in self._covariance]
        return gain_base, sum(h * g for h, g in zip(share, gain_base, strict=True)) + NOISE * NOISE

    def _is_change(self, error: float) -> bool:
        side = 1 if error > 0 else -1
        self._suspects = self._suspects + side if self._suspects * side >= 0 else side
        return abs(self._suspects) >= CHANGE_AFTER

    def _widen(self, error: float) -> None:
        """The machine changed: scale everything at once, and let the next few observations sort out the rest."""
        scale = max(1.0 + error, 0.1)
        self.multipliers = [min(max(m * scale, LOWEST), HIGHEST) for m in self.multipliers]
        square = scale * scale
        for i, row in enumerate(self._covariance):
            for j in range(len(row)):
                row[j] = row[j] * square + (COMMON_VARIANCE + (OWN_VARIANCE if i == j else 0.0)) * square * 0.05

    def _update(self, gain_base: list[float], variance: float, error: float) -> None:
        size = len(gain_base)
        gain = [g / variance for g in gain_base]
        self.multipliers = [
            min(max(m + g * error, LOWEST), HIGHEST) for m, g in zip(self.multipliers, gain, strict=True)
        ]
        for i in range(size):
            row, g = self._covariance[i], gain[i]
            for j in range(size):
                row[j] += COMMON_DRIFT - g * gain_base[j]
            row[i] += OWN_DRIFT
        for i in range(size):
            # A negative variance can only come from rounding; it would turn learning around.
            self._covariance[i][i] = min(max(self._covariance[i][i], 1e-9), HIGHEST)
