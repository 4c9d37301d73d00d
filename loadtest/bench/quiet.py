"""Measures again what was measured while others kept the machine busy: it would tell of them."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psutil

QUIET_CPUS = 0.25
"""Processors that others may keep busy on average."""
TRIES = 3
"""Then what was measured last stands, with how busy others were."""

T = TypeVar("T")


class Quiet:
    """Keeps, by name, how often each thing was measured and how many processors others kept busy the last time."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self.tries: dict[str, int] = {}
        self.others_cpus: dict[str, float] = {}

    async def measured(self, name: str, measure: Callable[[], Awaitable[T]]) -> T:
        """What ``measure`` gives in a quiet spell, or the third time."""
        while True:
            began = _now()
            found = await measure()
            others = _others_since(began)
            self.tries[name] = self.tries.get(name, 0) + 1
            self.others_cpus[name] = others
            if others <= QUIET_CPUS or self.tries[name] == TRIES:
                return found
            self._say(f"  others kept {others:.2f} processors busy: measured again")


def _now() -> tuple[float, float]:
    """The clock, and processor seconds of everything but this process."""
    everything, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    return time.monotonic(), everything.user + everything.system + everything.nice - mine.user - mine.system


def _others_since(began: tuple[float, float]) -> float:
    at, others_s = _now()
    return round(max(others_s - began[1], 0.0) / (at - began[0]), 2)
