"""Turns at a machine: who measures is alone, who loads waits until nobody measures.

Two workers that are measured at the same time measure one another. One lock per machine, which the kernel takes from
whoever ends, however it ends; whoever lives and does not let go is waited for no longer than ``wait_s``.
"""

import asyncio
import contextlib
import fcntl
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

import structlog

from workers.neighbours.place import file_is_at, lock_file, made

log = structlog.get_logger(__name__)

WAIT_S = 180.0
"""Ten full measurements of 18 s; a worker that waits longer measures beside the others and says so."""

POLL_S = 0.1
"""How often the lock is tried: a lock of the kernel has no event that an event loop could wait for."""

LOCK = "turn.lock"

Say = Callable[[str], None]


class MachineTurns:
    """The turns at this machine; ``folder`` is the same for all its workers."""

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s

    def measuring(self, say: Say = lambda _: None) -> contextlib.AbstractAsyncContextManager[bool]:
        """Alone, once nobody loads or measures: whether that was reached in time. ``say`` hears of a wait."""
        return self._turn(fcntl.LOCK_EX, "another worker of this machine loads or is measured: waiting", say)

    def loading(self, say: Say = lambda _: None) -> contextlib.AbstractAsyncContextManager[bool]:
        """Beside others that load, once nobody measures."""
        return self._turn(fcntl.LOCK_SH, "another worker of this machine is being measured: waiting", say)

    @contextlib.asynccontextmanager
    async def _turn(self, kind: int, waiting: str, say: Say) -> AsyncIterator[bool]:
        try:
            path = made(self._folder) / LOCK
            file = await self._acquired(path, kind, waiting, say)
        except OSError as error:
            log.warning("turn.not_had", reason=str(error))
            file = None
        if file is None:
            yield False
            return
        with file:
            try:
                yield True
            finally:  # said, not left to closing: an engine's process may have inherited the file
                fcntl.flock(file, fcntl.LOCK_UN)

    async def _acquired(self, path: Path, kind: int, waiting: str, say: Say) -> IO[bytes] | None:
        deadline = time.monotonic() + self._wait_s
        told = False
        while (file := _locked(path, kind)) is None:
            if not told:
                told = True
                say(waiting)
            if time.monotonic() >= deadline:
                log.warning("turn.not_had", reason=f"others kept it for {self._wait_s:g} s")
                return None
            await asyncio.sleep(POLL_S * random.uniform(0.5, 1.5))  # so that none of two is always first
        return file


def _locked(path: Path, kind: int) -> IO[bytes] | None:
    """The file, locked; None while others hold it. Raises OSError."""
    file = lock_file(path)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        if file_is_at(file, path):
            return file
    except BlockingIOError:
        pass
    except OSError:
        file.close()
        raise
    file.close()
    return None
