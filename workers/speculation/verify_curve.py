"""Seconds of a step by the rows it computes: what verifying costs on this machine, learned as it goes. Pure."""

import bisect
import math
from collections.abc import Callable

EXACT_ROWS = 16
"""Up to here every number of rows has a point of its own; beyond, eight to an octave."""

SCALE_WEIGHT = 0.2
SHAPE_WEIGHT = 0.05
"""How far one step moves the machine's pace, and its own point beside that. A busier machine moves all points alike."""

FARTHEST = math.log(2.0)
SHAPE_FARTHEST = math.log(1.3)
"""A single step is believed to be off by a factor of two at most, beside the others by a third: what is more is a
pause, no cost.
"""

DOUBT = 0.15
KEPT = 0.999
"""How far off, relatively, a point may be that no step has told of, and how fast what steps told is forgotten."""


def point_of(rows: int) -> int:
    """The number of rows that stands for ``rows``."""
    if rows <= EXACT_ROWS:
        return max(rows, 1)
    return round(math.exp2(round(8.0 * math.log2(rows)) / 8.0))


MEASURED_ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Rows of the steps that a model is tried with when it is loaded, as many as its batch holds and time allows."""

LOAD_BUDGET_S = 1.0


def measured(
    step_s: Callable[[int], float], most_rows: int, budget_s: float = LOAD_BUDGET_S
) -> list[tuple[int, float]]:
    """Points of a curve before anything is served, within about ``budget_s``; empty where one row alone takes too long.

    ``step_s(rows)`` runs a step and returns its seconds. The first of each size warms what it needs and is not counted.
    """
    points: list[tuple[int, float]] = []
    spent = 0.0
    for rows in MEASURED_ROWS:
        if rows > most_rows or (points and spent + 4.0 * points[-1][1] > budget_s):
            break
        first, second = step_s(rows), step_s(rows)
        spent += first + second
        if 2.0 * second > budget_s:
            break
        points.append((rows, second))
    return points


class VerifyCurve:
    """Points (rows, seconds), straight lines between them. More rows may cost less, where kernels change.

    >>> curve = VerifyCurve([(1, 0.010), (2, 0.012), (8, 0.024)])
    >>> round(curve.seconds(5), 4), round(curve.seconds(14), 4)
    (0.018, 0.036)
    """

    def __init__(self, measured: list[tuple[int, float]], *, steps: float = 1.0) -> None:
        """``steps``: that each point stands for; 0: it was not measured here."""
        if not measured:
            raise ValueError("a curve needs a point")
        self._points = {point_of(rows): seconds for rows, seconds in measured}
        self._steps = dict.fromkeys(self._points, steps)
        self._line: list[tuple[int, float]] = []
        self._draw()

    def seconds(self, rows: int) -> float:
        """What a step of so many rows takes. Beyond the last point it goes on as between that and the one with half as
        many rows, before the first it is the first; from one point alone, every row costs as much.
        """
        line = self._line
        at = bisect.bisect_left(line, (rows, -1.0))
        if at < len(line) and line[at][0] == rows:
            return line[at][1]
        if at == 0:
            return line[0][1]
        if at == len(line):
            if len(line) == 1:
                return line[0][1] * rows / line[0][0]
            left, low = line[max(bisect.bisect_right(line, (line[-1][0] / 2.0, math.inf)) - 1, 0)]
            right, high = line[-1]
            low = min(low, high)
        else:
            (left, low), (right, high) = line[at - 1], line[at]
        return low + (high - low) * (rows - left) / (right - left)

    def hoped(self, rows: int) -> float:
        """What such a step may take at best, by how few there were that told.

        >>> curve = VerifyCurve([(1, 0.010), (2, 0.012)], steps=8.0)
        >>> round(curve.hoped(2), 4), round(curve.hoped(3), 4), round(curve.seconds(3), 4)
        (0.0114, 0.0119, 0.014)
        """
        return self.seconds(rows) * (1.0 - DOUBT / math.sqrt(1.0 + self._steps.get(point_of(rows), 0.0)))

    def observe(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        if seconds <= 0.0:
            return
        off = math.log(seconds / self.seconds(rows))
        off = min(max(off, -FARTHEST), FARTHEST)
        pace = math.exp(SCALE_WEIGHT * off)
        for known in self._points:
            self._points[known] *= pace
            self._steps[known] *= KEPT
        point = point_of(rows)
        told = self._steps.get(point, 0.0)
        left = (1.0 - SCALE_WEIGHT) * off
        if not told:
            self._points[point] = self.seconds(point) * math.exp(off)
        else:
            left = min(max(left, -SHAPE_FARTHEST), SHAPE_FARTHEST)
            self._points[point] *= math.exp(max(SHAPE_WEIGHT, 1.0 / (2.0 + told)) * left)
        self._steps[point] = told + 1.0
        self._draw()

    def _draw(self) -> None:
        self._line = sorted(self._points.items())
