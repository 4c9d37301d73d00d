"""What the router's processes hold: memory and descriptors, sampled while something goes on."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Self

import psutil

SAMPLE_S = 0.25
ROUTER_TITLES = ("ray::ServeReplica", "haproxy")
"""Under Ray Serve, those that clients' bytes pass through: Ray's own processes have memory of their own to breathe."""


@dataclass(frozen=True, slots=True)
class Held:
    """All processes together."""

    memory_mb: float
    descriptors: int


class Footprint:
    """Of the process ``pid`` and, under Ray Serve, of what routes below it."""

    def __init__(self, pid: int, *, below: bool) -> None:
        self._root = psutil.Process(pid)
        self._below = below
        self.most = self.now()
        self._task: asyncio.Task[None] | None = None

    def now(self) -> Held:
        """As it is."""
        memory, descriptors = 0, 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
                descriptors += process.num_fds()
        return Held(memory / 2**20, descriptors)

    async def __aenter__(self) -> Self:
        self.most = self.now()
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sample(self) -> None:
        while True:
            now = await asyncio.to_thread(self.now)
            self.most = Held(max(self.most.memory_mb, now.memory_mb), max(self.most.descriptors, now.descriptors))
            await asyncio.sleep(SAMPLE_S)

    def _processes(self) -> list[psutil.Process]:
        if not self._below:
            return [self._root]
        return [one for one in self._root.children(recursive=True) if _routes(one)]


def _routes(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return bool(words) and (words[0].startswith(ROUTER_TITLES[0]) or words[0].endswith(ROUTER_TITLES[1]))
    return False
