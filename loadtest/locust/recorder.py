"""Where a run is kept while it goes: every sample on disk at once, and what the next decision needs in memory."""

from pathlib import Path
from typing import IO

import msgspec

from loadtest.locust.sample import Sample, Slo
from loadtest.locust.shapes import Shape
from loadtest.locust.watch import Second

KNEE_SHARE = 0.95
"""A step holds while this share of its requests is inside the targets."""
STEPS_BEYOND = 2
"""So many steps in a row that do not end a ramp."""

SAMPLES = "samples.jsonl"


class Recorder:
    """Of one run, in the process that reports: alone, or the master of others."""

    def __init__(self, folder: Path, shape: Shape, slo: Slo) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.watched: list[Second] = []
        self.requests = 0
        self._shape = shape
        self._slo = slo
        self._file: IO[bytes] | None = (folder / SAMPLES).open("wb")
        self._asked = [0] * len(shape.steps)
        self._good = [0] * len(shape.steps)

    def sample(self, sample: Sample) -> None:
        """One request ended."""
        if self._file is None:
            return  # after the end: what was cut off
        self.requests += 1
        self._file.write(msgspec.json.encode(sample) + b"\n")
        step = self._shape.step_at(sample.due_s)
        self._asked[step] += 1
        self._good[step] += self._slo.met_by(sample)

    def beyond_the_knee(self, second: float) -> bool:
        """Whether the last whole steps were all too much, by what has ended of them so far."""
        done = self._shape.step_at(second)
        if done < STEPS_BEYOND or len({step.rate for step in self._shape.steps}) < 3:
            return False
        last = range(done - STEPS_BEYOND, done)
        return all(self._asked[step] >= 5 and self._good[step] < KNEE_SHARE * self._asked[step] for step in last)

    def close(self) -> None:
        """No more samples."""
        if self._file is not None:
            self._file.close()
            self._file = None
