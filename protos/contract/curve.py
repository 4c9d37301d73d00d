"""Measured curves: seconds at a few points, a line between two of them, and a bound on what is said beyond the last.

A decode step is no straight line in the batch: a quantized matrix product changes its kernel (FACTS: one H100, 70B in
Q4_K_M: 58 ms for 8 sequences, 46 for 16), and short prompts cost a token more than long ones. Pure.
"""

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

_at = attrgetter("at")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What was measured at one size: sequences of a step, or tokens of a prompt."""

    at: int
    seconds: float


Curve = tuple[CurvePoint, ...]
"""``at`` rises from point to point; empty: nothing was measured."""


def line_at(curve: Curve, at: float) -> tuple[float, float]:
    """Intercept and slope of the line that holds from ``at`` up to the next whole number.

    Before the first point nothing changes. After the last the slope is that over the last doubling, never falling and
    never steeper than in proportion: sequences computed one after another would cost no more.

    >>> points = (CurvePoint(at=1, seconds=4.0), CurvePoint(at=8, seconds=11.0), CurvePoint(at=16, seconds=9.0))
    >>> line_at(points, 1), line_at(points, 10), line_at(points, 20)
    ((3.0, 1.0), (13.0, -0.25), (9.0, 0.0))
    """
    right = bisect_right(curve, at, key=_at)
    if right == 0:
        return curve[0].seconds, 0.0
    last = curve[right - 1]
    slope = slope_beyond(curve) if right == len(curve) else _slope(last, curve[right])
    return last.seconds - slope * last.at, slope


def slope_beyond(curve: Curve) -> float:
    """Seconds for each more after the last point."""
    last = curve[-1]
    before = curve[max(bisect_right(curve, last.at / 2.0, key=_at) - 1, 0)]
    if before.at == last.at:
        return 0.0
    return min(max(_slope(before, last), 0.0), last.seconds / last.at)


def _slope(left: CurvePoint, right: CurvePoint) -> float:
    return (right.seconds - left.seconds) / (right.at - left.at)
