"""Honest clients during an attack: streams one after the other, and a probe that knocks at the door."""

import asyncio
import contextlib
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
    machine_s: list[float] = field(default_factory=list)  # the same probe of an idle server beside it

    @property
    def probe_p99_s(self) -> float:
        """0.0 without probes."""
        return _p99(self.probes_s)

    @property
    def machine_p99_s(self) -> float:
        """What of it is the machine's."""
        return _p99(self.machine_s)


def _p99(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0


class Honest:
    """As a context: asks for as long as it is entered; streams under way at its end are waited for."""

    def __init__(self, url: str, model: str, key: str = "", *, idle_url: str = "") -> None:
        self._url = url
        self._idle_url = idle_url
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
            asked = [_knock(f"{self._url}/v1/models", self._headers)]
            if self._idle_url:
                asked.append(_knock(self._idle_url, {}))
            took, *idle = await asyncio.gather(*asked)
            self.seen.probes_failed += took is None
            self.seen.probes_s.append(PROBE_DEADLINE_S if took is None else took)
            self.seen.machine_s += [PROBE_DEADLINE_S if one is None else one for one in idle]
            await asyncio.sleep(max(0.0, PROBE_EVERY_S - (time.monotonic() - began)))


async def _knock(url: str, headers: dict[str, str]) -> float | None:
    """Seconds to a whole answer; None without one."""
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PROBE_DEADLINE_S)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url, timeout=timeout) as reply:
            await reply.read()
            return time.monotonic() - began if reply.status == 200 else None
    return None
