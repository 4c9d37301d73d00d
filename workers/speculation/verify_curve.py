"""Seconds of a step by the rows it computes: what verifying costs on this machine, learned as it goes. Pure."""

import bisect
import math
from collections.abc import Callable

EXACT_ROWS = 16
"""Up to here every number of rows has a point of its own; beyond, eight to an octave."""

SCALE_WEIGHT = 0.2
SHAPE_WEIGHT = 0.1
"""How far one step moves the machine's pace, and its own point beside that. A busier machine moves all points alike."""

FARTHEST = math.log(2.0)
"""A single step is believed to be off by a factor of two at most: the others are pauses, not costs."""


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
    """Points (rows, seconds), straight lines between them; never less for more rows.

    >>> curve = VerifyCurve([(1, 0.010), (2, 0.012), (8, 0.024)])
    >>> round(curve.seconds(5), 4), round(curve.seconds(14), 4)
    (0.018, 0.036)
    """

    def __init__(self, measured: list[tuple[int, float]]) -> None:
        if not measured:
            raise ValueError("a curve needs a point")
        self._points = {point_of(rows): seconds for rows, seconds in measured}
        self._line: list[tuple[int, float]] = []
        self._draw()

    def seconds(self, rows: int) -> float:
        """What a step of so many rows takes. Beyond the last point it goes on as between the last two, before the first
        it is the first; from one point alone, every row costs as much.
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
            at -= 1
        (left, low), (right, high) = line[at - 1], line[at]
        return low + (high - low) * (rows - left) / (right - left)

    def observe(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        if seconds <= 0.0:
            return
        off = math.log(seconds / self.seconds(rows))
        off = min(max(off, -FARTHEST), FARTHEST)
        pace = math.exp(SCALE_WEIGHT * off)
        for known in self._points:
            self._points[known] *= pace
        point = point_of(rows)
        before = self._points.get(point)
        if before is None:
            self._points[point] = self.seconds(rows) * math.exp(off)
        else:
            self._points[point] = before * math.exp(SHAPE_WEIGHT * (1.0 - SCALE_WEIGHT) * off)
        self._draw()

    def _draw(self) -> None:
        """The line through the points; where one is below its forerunner, both are noise around the same figure."""
        line: list[tuple[int, float]] = []
        for rows, seconds in sorted(self._points.items()):
            line.append((rows, max(seconds, line[-1][1]) if line else seconds))
        self._line = line
