"""When Python's collector looks through everything there is: when that is cheap, or at last when it must be.

It holds the event loop for as long as it takes, a microsecond an object: with five thousand connections open a tenth of
a second, with as many half-sent requests a third. What it finds are rings of objects that hold each other, which this
program hardly leaves. So after ``router.limits.settle_heap`` it never begins by itself; here it is begun.
"""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

LOOK_S = 5.0

ENOUGH_COLLECTIONS = 20
"""Of the younger objects since the last full one, half a million objects that came and stayed."""

GROWN_BYTES = 64 * 2**20
"""More memory in use than after the last full one is reason enough: rings may hold large things."""

CHEAP_OBJECTS = 30_000
"""Looked through in about 30 ms."""

PATIENCE_S = 60.0
"""For how long a full one that is due waits for less to look through."""


class FullCollections:
    """Of this process. ``settled`` tells whether the collector has been told to leave them to us."""

    def __init__(
        self,
        *,
        settled: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
        memory_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._settled = settled
        self._now = now
        self._memory_bytes = memory_bytes or resident_bytes
        self._memory_then = 0
        self._due_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._memory_then = self._memory_bytes()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._again)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        if self._settled():
            self.look()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._again)

    def look(self) -> bool:
        """Collect, if it is time to; whether it was."""
        if not self._due():
            self._due_since = None
            return False
        now = self._now()
        if self._due_since is None:
            self._due_since = now
        if now - self._due_since < PATIENCE_S and len(gc.get_objects()) > CHEAP_OBJECTS:
            return False
        gc.collect()
        self._memory_then, self._due_since = self._memory_bytes(), None
        return True

    def _due(self) -> bool:
        if gc.get_count()[2] >= ENOUGH_COLLECTIONS:
            return True
        return self._memory_bytes() - self._memory_then > GROWN_BYTES


def resident_bytes() -> int:
    """Memory this process has now; 0 where the system does not say (macOS)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
