"""The one client of all rows, in a process of its own: so many streams, as little work as can be.

With a rate, streams begin as real traffic has them, independently of each other (exponential gaps, the same for
everybody), however long the answers take. Without one, so many clients each ask again as their last answer ends: with
answers of one length they stay in step, and all ask in the same millisecond. Then TTFT is what a burst of requests
takes to be worked off, and not what a router adds to a request.

Every stream's tokens are checked by its usage. Times are taken as bytes arrive. Acknowledges at once, as the backend
does. Prints one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

STREAM_DEADLINE_S = 120.0
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
_TEXT = re.compile(rb'"content": ?"[^"]')


@dataclass(slots=True)
class Heard:
    """One stream. Times are seconds."""

    sent: float
    at: list[float] = field(default_factory=list)  # of each arrival that carried text
    status: int = 0
    tokens: int = 0
    whole: bool = False
    said: bytes = b""  # the beginning of an answer that is none


class Client(asyncio.Protocol):
    """One connection; ``ask`` streams one answer after the other over it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._heard: Heard | None = None
        self._done: asyncio.Future[None] | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket, for its acknowledgements."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")

    def connection_lost(self, _error: Exception | None) -> None:
        """Whoever waits is let go; what was heard is not whole."""
        self._transport = None
        self._finish()

    @property
    def open(self) -> bool:
        """Whether another answer may be asked for."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Heard:
        """One answer, to its end or its deadline."""
        assert self._transport is not None
        self._heard, self._tail = Heard(time.perf_counter()), b""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(STREAM_DEADLINE_S):
                await self._done
        except TimeoutError:
            self.close()
        return self._heard

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        now = time.perf_counter()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        heard = self._heard
        if heard is None:
            return
        if not heard.status:
            self._tail += data
            head, found, data = self._tail.partition(b"\r\n\r\n")
            if not found:
                return
            heard.status, self._tail = int(head[9:12]), b"\r\n"
            if heard.status != 200 or b"chunked" not in head.lower():
                heard.said = head[:12] + b" " + data[:300]
                self.close()
                return
        if _TEXT.search(data):
            heard.at.append(now)
        self._tail = (self._tail + data)[-4096:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            counts = _TOKENS.findall(self._tail)
            heard.tokens = int(counts[-1]) if counts else 0
            heard.whole = b"[DONE]" in self._tail
            self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def request(url: str, model: str, tokens: int, number: int) -> bytes:
    """One POST."""
    parts = urlsplit(url)
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": f"Question {number}: how do you do?"}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer none\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def many(url: str, model: str, *, streams: int, concurrent: int, tokens: int, first: int) -> list[Heard]:
    """All of them; each of ``concurrent`` clients asks again as its last answer has ended."""
    numbers = iter(range(first, first + streams))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_client(url, model, tokens, numbers)) for _ in range(concurrent)]
    return [heard for task in tasks for heard in task.result()]


async def paced(url: str, model: str, *, streams: int, rate: float, tokens: int, first: int) -> list[Heard]:
    """All of them, ``rate`` a second; each over a connection that is free, or a new one."""
    draw, due, idle = random.Random(streams), time.perf_counter(), list[Client]()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(first, first + streams):
            due += draw.expovariate(rate)
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(group.create_task(_over_a_free_one(url, request(url, model, tokens, number), idle)))
    for connection in idle:
        connection.close()
    return [task.result() for task in tasks]


async def _over_a_free_one(url: str, asked: bytes, idle: list[Client]) -> Heard:
    connection = idle.pop() if idle else await _connected(url)
    if connection is None:
        return Heard(time.perf_counter())
    heard = await connection.ask(asked)
    if connection.open:
        idle.append(connection)
    return heard


async def _client(url: str, model: str, tokens: int, numbers: Iterator[int]) -> list[Heard]:
    heard, connection = list[Heard](), None
    for number in numbers:
        if connection is None or not connection.open:
            connection = await _connected(url)
        if connection is None:
            heard.append(Heard(time.perf_counter()))
            continue
        heard.append(await connection.ask(request(url, model, tokens, number)))
    if connection is not None:
        connection.close()
    return heard


async def _connected(url: str) -> Client | None:
    parts = urlsplit(url)
    with contextlib.suppress(OSError):
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Client, parts.hostname or "127.0.0.1", parts.port or 80))[1]
    return None


def figures(heard: list[Heard], tokens: int, wall_s: float) -> dict[str, float]:
    """Of those that were whole: percentiles in seconds; and how many were not."""
    whole = [one for one in heard if one.whole and one.status == 200 and one.tokens == tokens and one.at]
    ttft = sorted(one.at[0] - one.sent for one in whole)
    gaps = sorted(later - one for stream in whole for one, later in zip(stream.at, stream.at[1:], strict=False))
    return {
        "streams": len(heard),
        "failed": len(heard) - len(whole),
        "ttft_p50_s": _percentile(ttft, 0.5),
        "ttft_p99_s": _percentile(ttft, 0.99),
        "itl_p50_s": _percentile(gaps, 0.5),
        "itl_p99_s": _percentile(gaps, 0.99),
        "tokens": sum(one.tokens for one in whole),
        "wall_s": wall_s,
    }


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    for name in ("streams", "tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--concurrent", type=int, default=1, help="clients, where there is no rate")
    parser.add_argument("--rate", type=float, default=0.0, help="streams that begin in a second")
    parser.add_argument("--first", type=int, default=0, help="number of the first prompt: no two are alike")
    options = parser.parse_args()

    async def run() -> tuple[list[Heard], float]:
        began = time.perf_counter()
        asked = partial(paced, rate=options.rate) if options.rate else partial(many, concurrent=options.concurrent)
        heard = await asked(options.url, options.model, streams=options.streams, tokens=options.tokens,
                            first=options.first)  # fmt: skip
        return heard, time.perf_counter() - began

    import uvloop

    heard, wall_s = uvloop.run(run())
    broken = next((one for one in heard if not one.whole), None)
    if broken is not None:
        print(f"a stream that failed: {broken.said.decode(errors='replace') or broken}"[:400], file=sys.stderr)
    print(json.dumps(figures(heard, options.tokens, wall_s)))


if __name__ == "__main__":
    main()
