"""Stops one thread of another process, so that an engine hangs under a live event loop. Linux, by ptrace(2).

The thread that computes is the one that uses the most processor time. It may hold Python's lock in the moment it is
stopped, which would stop the whole process; then it is let go and stopped again a little later.
"""

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WAIT_ALL = 0x40000000  # __WALL: threads too
WATCH_S = 0.4
TRIES = 25

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class FrozenThread:
    """A stopped thread; ``thaw`` lets it go on. To be used from one and the same thread of ours, as ptrace wants."""

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        _ptrace(_SEIZE, thread_id)
        _ptrace(_INTERRUPT, thread_id)
        os.waitpid(thread_id, _WAIT_ALL)
        self._stopped = True

    def thaw(self) -> None:
        """Let it run. Idempotent; a thread that was killed meanwhile needs nothing."""
        if self._stopped:
            self._stopped = False
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_DETACH, self._thread_id)


async def freeze(process_id: int) -> FrozenThread:
    """Stop the computing thread of a process whose event loop goes on."""
    thread_id = await _busiest_thread(process_id)
    for attempt in range(TRIES):
        frozen = FrozenThread(thread_id)
        if await _main_thread_lives(process_id):
            return frozen
        frozen.thaw()
        await asyncio.sleep(0.01 + 0.007 * attempt)
    raise RuntimeError(f"process {process_id}: its thread {thread_id} cannot be stopped without the others")


async def _busiest_thread(process_id: int) -> int:
    before = _times(process_id)
    await asyncio.sleep(WATCH_S)
    after = _times(process_id)
    return max(after, key=lambda thread: after[thread] - before.get(thread, 0))


def _times(process_id: int) -> dict[int, int]:
    """Clock ticks by thread id (proc(5): utime and stime of stat)."""
    found = {}
    for folder in Path(f"/proc/{process_id}/task").iterdir():
        fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        found[int(folder.name)] = int(fields[11]) + int(fields[12])
    return found


async def _main_thread_lives(process_id: int) -> bool:
    """Whether its event loop still comes round: it reports its load many times a second."""
    first = _switches(process_id)
    await asyncio.sleep(0.15)
    return _switches(process_id) > first + 1


def _switches(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


def _ptrace(request: int, thread_id: int) -> None:
    if _libc.ptrace(request, thread_id, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace of thread {thread_id}: {os.strerror(error)}")
