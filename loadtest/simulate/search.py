"""The maximal goodput: the greatest load at which 95% of the requests lie inside the targets."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.simulate.metrics import Figures

REQUIRED = 0.95

LOWEST = 0.03
"""Share of the first load tried below which a policy is said to hold no load at all."""

Run = Callable[[float], Figures]
"""Simulates at an offered rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """Where goodput breaks. ``goodput``: requests a second inside the targets, at the last load that holds."""

    goodput: float
    rate: float
    figures: Figures | None
    lowest: Figures | None = None  # of the lowest load tried, where none holds
    tried: dict[float, float] = field(default_factory=dict)  # rate -> share inside the targets


def find_knee(run: Run, first: float, *, precision: float = 0.04, stride: float = 2.0, steps: int = 9) -> Knee:
    """Search from ``first`` in strides, then by bisection until the bracket is within ``precision``. Strides down grow
    with every load that does not hold.

    Between the last load that holds and the first that does not, the crossing is interpolated.
    """
    tried: dict[float, Figures] = {}
    low, high, rate, down = 0.0, 0.0, first, stride
    for _ in range(steps):
        tried[rate] = found = run(rate)
        if found.within >= REQUIRED:
            low = rate
        else:
            high = rate
        if high == 0.0:
            rate = low * min(stride, 1.5)
        elif low == 0.0:
            rate = high / down
            down = min(down * stride, 4.0)
            if rate < first * LOWEST:
                break
        elif high / low <= 1.0 + precision:
            break
        else:
            rate = (low + high) / 2.0
    shares = {rate: found.within for rate, found in sorted(tried.items())}
    if low == 0.0:
        return Knee(goodput=0.0, rate=0.0, figures=None, lowest=tried[min(tried)], tried=shares)
    crossing = low
    if high > low:
        inside, outside = shares[low], shares[high]
        crossing = low + (high - low) * (inside - REQUIRED) / max(inside - outside, 1e-9)
    # Rates asked for and rates that came differ by chance: what counts is what came.
    at_low = tried[low]
    return Knee(
        goodput=max(at_low.offered * crossing / low * REQUIRED, at_low.goodput),
        rate=crossing,
        figures=at_low,
        tried=shares,
    )
