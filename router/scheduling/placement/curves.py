"""Measured curves of the candidates, where workers sent some.

A decision computes with lines, one of a decode step and one of a prefill for each candidate (``columns``). A curve
comes in twice. The line of the decode step is the piece that holds at the batch the worker has: it is written anew
whenever that changes, so a decision costs nothing more. The prefill's piece depends on the request as well: it is
looked up here, for all candidates at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protos.contract.curve import Curve, CurvePoint
from protos.contract.worker import Speed
from router.scheduling.placement.columns import Column

Floats = NDArray[np.float64]

AT_THE_LOAD = (Column.IN_ENGINE, Column.INFLIGHT_REQUESTS, Column.SLOTS)
"""What decides which piece of its decode curve a candidate is on."""


def batch_there(column: Floats, unseen: float) -> float:
    """Sequences that run on a candidate, as ``cost.forecast`` counts them."""
    in_engine = column[Column.IN_ENGINE] + max(unseen, 1.0) * column[Column.INFLIGHT_REQUESTS]
    return float(min(in_engine, column[Column.SLOTS]))


def write_decode_line(column: Floats, speed: Speed, unseen: float) -> None:
    """The piece of the decode curve at the candidate's batch, as its line."""
    column[Column.BASE_S], column[Column.PER_SEQUENCE_S] = speed.decode_line(batch_there(column, unseen))


@dataclass(frozen=True, slots=True)
class Curves:
    """``speeds[i]``: the candidate's speed where it has curves, else None. ``bends``: see ``bends_of``."""

    speeds: NDArray[np.object_]
    bends: Floats | None = None

    def take(self, rows: NDArray[np.intp]) -> "Curves":
        """Of some of the candidates."""
        return Curves(self.speeds[rows], None if self.bends is None else self.bends[:, :, rows])

    def without_bends(self) -> "Curves":
        """The same, in less memory: bends are made again where somebody asks."""
        return Curves(self.speeds)

    def decode(self, i: int) -> Curve:
        """A candidate's decode curve; empty where it has a line."""
        return self.speeds[i].decode_curve if self.speeds[i] is not None else ()

    def prefill(self, i: int) -> Curve:
        """A candidate's prefill curve, from no tokens on; empty where it has a line."""
        return prefill_knots(self.speeds[i])

    def beside_the_line_s(self, tokens: Floats) -> Floats:
        """What prefilling ``tokens[i]`` takes on each candidate beyond what the line of its columns says."""
        at, change = self.bends if self.bends is not None else bends_of(self.speeds)
        left = at - tokens
        np.maximum(left, 0.0, out=left)
        left *= change
        beside: Floats = np.add.reduce(left)
        return beside


def prefill_knots(speed: Speed | None) -> Curve:
    """The prefill curve with the point at no tokens before it."""
    if speed is None or not speed.prefill_curve:
        return ()
    return (CurvePoint(at=0, seconds=speed.prefill_fixed_s), *speed.prefill_curve)


def bends_of(speeds: Sequence[Speed | None] | NDArray[np.object_]) -> Floats:
    """``[at, change][bend, candidate]``: a piecewise line is the line of its last piece and, for each bend, what the
    slope changes there (seconds a token) times the tokens that are missing to it.
    """
    width = max(1, *(0 if one is None else len(one.prefill_curve) for one in speeds))
    bends = np.zeros((2, width, len(speeds)))
    for i, speed in enumerate(speeds):
        bends[:, :, i] = bend_columns(speed, width)
    return bends


def bend_columns(speed: Speed | None, width: int) -> Floats:
    """One candidate's bends; see ``bends_of``."""
    bends, knots = np.zeros((2, width)), prefill_knots(speed)
    if speed is None or not knots:
        return bends
    slopes = [(right.seconds - left.seconds) / (right.at - left.at) for left, right in pairwise(knots)]
    slopes.append(1.0 / speed.prefill_tokens_per_s)
    for k, (point, (before, after)) in enumerate(zip(knots[1:], pairwise(slopes), strict=True)):
        bends[:, k] = point.at, after - before
    return bends
