"""Many raw connections at once, held and fed, for as long as the attack goes on."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

Feed = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What one connection does; it ends when the router closes it."""

AT_ONCE = 200
"""Connections that are opened at the same time."""

AGAIN_S = 0.2


class Crowd:
    """Keeps ``count`` connections open: whichever is closed is opened again."""

    def __init__(self, port: int, count: int, feed: Feed) -> None:
        self._port = port
        self._count = count
        self._feed = feed
        self._opening = asyncio.Semaphore(AT_ONCE)
        self.saw: Counter[str] = Counter()
        self._open = 0

    async def attack(self, seconds: float) -> dict[str, float]:
        """How many were open at most, were closed by the router, and could not be opened."""
        until = time.monotonic() + seconds
        tasks = [asyncio.create_task(self._one(until)) for _ in range(self._count)]
        try:
            await asyncio.sleep(seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return dict(self.saw)

    async def _one(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                async with self._opening, asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except (OSError, TimeoutError):
                self.saw["not opened"] += 1
                await asyncio.sleep(AGAIN_S)
                continue
            self._open += 1
            self.saw["open at most"] = max(self.saw["open at most"], self._open)
            try:
                await self._feed(reader, writer)
                self.saw["closed by the router"] += 1
            except (OSError, EOFError):
                self.saw["closed by the router"] += 1
            finally:
                self._open -= 1
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await asyncio.sleep(AGAIN_S)


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Take whatever the router sends, until it closes."""
    while await reader.read(65536):
        pass
