"""What streams have to say goes out once a turn of the event loop, and less often where that turns out to be much.

Handing bytes to the kernel is most of what a token costs. A step of an engine brings a token to each of its streams:
all of them are written in one callback. Where steps come faster than they can be written, writing takes at most half of
the time, and what came meanwhile goes out in one piece for each stream. A router with time to spare never waits.
"""

import asyncio
from time import monotonic, thread_time
from typing import Protocol

MOST_REST_S = 0.02
"""Nobody's token waits longer for others to be written."""


class Waiting(Protocol):
    """A stream with something to say."""

    def flush(self) -> None:
        """Say it."""
        ...


class Outflow:
    """Of one event loop."""

    __slots__ = ("_loop", "_rest_until", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest_until = 0.0
        self._waiting: list[Waiting] = []

    def add(self, one: Waiting) -> None:
        """It will be flushed soon. Not to be added again before that."""
        if not self._waiting:
            self._schedule()
        self._waiting.append(one)

    def _schedule(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # once: it asks the kernel which process this is
        rest_s = self._rest_until - monotonic()
        if rest_s > 0.0:
            self._loop.call_later(rest_s, self._flush)
        else:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """As long as this takes, as long it rests; by the processor's time: what others had of it is no reason to."""
        began = thread_time()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.flush()
        self._rest_until = monotonic() + min(thread_time() - began, MOST_REST_S)
