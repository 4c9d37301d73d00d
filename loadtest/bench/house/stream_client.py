"""A client in a process of its own: so many chat streams, so many at once; every token of each is counted.

Prints one JSON object; exits with 1 and a line where a stream is short or fails, unless failures are counted.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

STREAM_DEADLINE_S = 60.0


class ShortStream(Exception):
    """A stream that did not bring what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one stream brought. Times are seconds from its sending."""

    tokens: int
    events: int  # that carried text
    ttft_s: float
    ended_s: float


async def one_stream(session: aiohttp.ClientSession, url: str, model: str, number: int, tokens: int) -> Heard:
    """Ask, read to the end. Raises ShortStream."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"Question {number}: how do you do?"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent = time.monotonic()
    first, said, lines = 0.0, 0, []
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        if reply.status != 200:
            raise ShortStream(f"stream {number}: {reply.status} {(await reply.text())[:200]}")
        async for line in reply.content:
            first = first or (time.monotonic() if b'"content":"' in line else 0.0)
            lines.append(line)
    ended = time.monotonic()
    text, events, said = read_events(lines)
    if said != tokens or len(text.split()) != tokens:  # a simulated worker's token is one word
        raise ShortStream(f"stream {number}: {said} tokens by its usage, {len(text.split())} words, not {tokens}")
    return Heard(tokens=said, events=events, ttft_s=first - sent, ended_s=ended - sent)


def read_events(lines: list[bytes]) -> tuple[str, int, int]:
    """Of a stream's lines: its text, how many events carried some, and the completion tokens of its usage."""
    pieces, used = [], 0
    for line in lines:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("usage"):
            used = int(event["usage"]["completion_tokens"])
        pieces += [text for choice in event.get("choices", ()) if (text := choice["delta"].get("content"))]
    return "".join(pieces), len(pieces), used


async def many_streams(
    url: str, model: str, *, streams: int, concurrent: int, tokens: int, first: int = 0, tolerate: bool = False
) -> list[Heard]:
    """All of them, each of ``concurrent`` clients sending its next as its last has ended. Raises ShortStream, unless
    those that fail are to be left out.
    """
    numbers = iter(range(first, first + streams))
    timeout = aiohttp.ClientTimeout(total=STREAM_DEADLINE_S)
    connector = aiohttp.TCPConnector(limit=concurrent)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_client(session, url, model, numbers, tokens, tolerate=tolerate))
            for _ in range(concurrent)
        ]
    return [heard for task in tasks for heard in task.result()]


async def _client(
    session: aiohttp.ClientSession, url: str, model: str, numbers: Iterator[int], tokens: int, *, tolerate: bool
) -> list[Heard]:
    heard = []
    for number in numbers:
        try:
            heard.append(await one_stream(session, url, model, number, tokens))
        except (ShortStream, aiohttp.ClientError, TimeoutError) as failed:
            if not tolerate:
                raise
            print(failed, file=sys.stderr)
    return heard


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--concurrent", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first prompt: no two are alike")
    parser.add_argument("--tolerate", action="store_true", help="streams that fail are named and counted")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        heard = asyncio.run(
            many_streams(
                options.url,
                options.model,
                streams=options.streams,
                concurrent=options.concurrent,
                tokens=options.tokens,
                first=options.first,
                tolerate=options.tolerate,
            )
        )
    except* (ShortStream, aiohttp.ClientError, TimeoutError) as failed:
        sys.exit(f"{type(failed.exceptions[0]).__name__}: {failed.exceptions[0]}")
    figures = {
        "streams": len(heard),
        "tokens": sum(one.tokens for one in heard),
        "events": sum(one.events for one in heard),
        "ttft_p50_s": statistics.median(one.ttft_s for one in heard),
        "tpot_p50_s": statistics.median((one.ended_s - one.ttft_s) / (one.tokens - 1) for one in heard),
        "wall_s": time.monotonic() - began,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
