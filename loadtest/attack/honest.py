"""Honest clients during an attack: streams one after the other, and a probe that knocks at the door."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

from loadtest.chaos.streams import Stream, run

STREAMS = 6
TOKENS = 120
PROBE_EVERY_S = 0.1
PROBE_DEADLINE_S = 10.0


@dataclass(slots=True)
class Seen:
    """What honest clients saw."""

    completed: int = 0
    lost: list[str] = field(default_factory=list)  # why, each
    probes_s: list[float] = field(default_factory=list)  # those that failed count as their deadline
    probes_failed: int = 0

    @property
    def probe_p99_s(self) -> float:
        """0.0 without probes."""
        ordered = sorted(self.probes_s)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0


class Honest:
    """As a context: asks for as long as it is entered; streams under way at its end are waited for."""

    def __init__(self, url: str, model: str, key: str = "") -> None:
        self._url = url
        self._model = model
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.seen = Seen()

    async def __aenter__(self) -> Seen:
        self._tasks = [asyncio.create_task(self._streams(number)) for number in range(STREAMS)]
        self._tasks.append(asyncio.create_task(self._probe()))
        return self.seen

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _streams(self, number: int) -> None:
        """One client on a connection of its own, which it keeps."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            asked = 0
            while not self._stop.is_set():
                asked += 1
                stream = Stream(self._model, f"client {number}, question {asked}", TOKENS)
                await run(stream, session, self._url, lambda: None)
                if stream.completed:
                    self.seen.completed += 1
                else:
                    self.seen.lost.append(stream.error)
                    await asyncio.sleep(0.2)

    async def _probe(self) -> None:
        """A new connection each time: what a client meets that was not there before."""
        while not self._stop.is_set():
            began = time.monotonic()
            took = PROBE_DEADLINE_S
            try:
                async with (
                    aiohttp.ClientSession(headers=self._headers) as session,
                    session.get(f"{self._url}/v1/models", timeout=aiohttp.ClientTimeout(total=took)) as reply,
                ):
                    await reply.read()
                    if reply.status == 200:
                        took = time.monotonic() - began
                    else:
                        self.seen.probes_failed += 1
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.seen.probes_failed += 1
            self.seen.probes_s.append(took)
            await asyncio.sleep(max(0.0, PROBE_EVERY_S - (time.monotonic() - began)))
