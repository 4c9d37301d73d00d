"""The fleet table's rows whose workers sent measured curves, and their lines kept up with their load."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protos.contract.worker import Speed
from router.scheduling.placement.candidates import Floats
from router.scheduling.placement.curves import Curves, bend_columns, bends_of, write_decode_line


class CurveRows:
    """Falsy while every row is a straight line: then nothing of this is ever looked at."""

    def __init__(self, unseen: float) -> None:
        self._unseen = unseen
        self._curved = 0
        self._speeds: NDArray[np.object_] = np.empty(0, dtype=object)
        self._bends: Floats = np.zeros((2, 1, 0))

    def __bool__(self) -> bool:
        return self._curved > 0

    def moved(self, rows: int, kept: Sequence[tuple[int, int]]) -> None:
        """The table has so many rows now; ``kept``: pairs of a row and where it was."""
        speeds, bends = self._speeds, self._bends
        self._speeds = np.empty(rows, dtype=object)
        self._bends = np.zeros((2, bends.shape[1], rows))
        if kept:
            now, then = zip(*kept, strict=True)
            self._speeds[list(now)] = speeds[list(then)]
            self._bends[:, :, now] = bends[:, :, then]
        self._curved = int(np.count_nonzero(self._speeds))

    def write_speed(self, row: int, speed: Speed, column: Floats) -> None:
        """A row's speed was written: its curves, or that it has none."""
        curved, before = bool(speed.decode_curve or speed.prefill_curve), self._speeds[row] is not None
        if not curved and not before:
            return
        self._curved += curved - before
        self._speeds[row] = speed if curved else None
        width = self._bends.shape[1]
        if len(speed.prefill_curve) > width:
            self._bends = bends_of(self._speeds)
        else:
            self._bends[:, :, row] = bend_columns(speed, width)
        self.write_load(row, column)

    def write_load(self, row: int, column: Floats) -> None:
        """A row's load was written: the line of its decode step is the piece at the batch it has now."""
        speed = self._speeds[row]
        if speed is not None:
            write_decode_line(column, speed, self._unseen)

    def of(self, rows: NDArray[np.intp]) -> Curves | None:
        """The curves of some rows; None: all of the table are straight lines."""
        if not self._curved:
            return None
        return Curves(self._speeds.take(rows), self._bends.take(rows, axis=2))
