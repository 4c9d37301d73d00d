"""At the clients' door, without a key: connections that say little, slowly, or never read."""

import asyncio

from loadtest.attack.attacks.sockets import Crowd, until_closed
from loadtest.attack.target import Attack, Target

MANY = 4300
IDLE = 5000
SLOW_READ_S = 0.2


def _head(path: str, length: int) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def _trickle(target: Target, path: str, length: int, *, every_s: float = 1.0) -> dict[str, float]:
    head = _head(path, length)

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        closed = asyncio.create_task(until_closed(reader))
        try:
            while not closed.done():
                writer.write(b" ")
                await writer.drain()
                await asyncio.wait({closed}, timeout=every_s)
        finally:
            closed.cancel()

    return await Crowd(target.port, MANY, feed).attack(target.seconds)


async def _to_nowhere(target: Target) -> dict[str, float]:
    return await _trickle(target, "/nowhere", 8_000_000_000)


async def _to_chat(target: Target) -> dict[str, float]:
    return await _trickle(target, "/v1/chat/completions", 8_000_000)


async def _idle(target: Target) -> dict[str, float]:
    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001 - says nothing
        await until_closed(reader)

    return await Crowd(target.port, IDLE, feed).attack(target.seconds)


async def _half_behind(target: Target) -> dict[str, float]:
    """Whole requests, each with half of another behind it."""
    half = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-half: "

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(half.replace(b"x-half: ", b"\r\n") + half)
        await until_closed(reader)

    return await Crowd(target.port, 500, feed).attack(target.seconds)


async def _never_read(target: Target) -> dict[str, float]:
    """Long streams that their clients do not read."""
    body = (
        b'{"model":"%b","stream":true,"max_tokens":4000,"ignore_eos":true,"messages":[{"role":"user","content":"hi"}]}'
        % target.model.encode()
    )
    head = _head("/v1/chat/completions", len(body))

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        await asyncio.sleep(target.seconds)
        await until_closed(reader)

    return await Crowd(target.port, 30, feed).attack(target.seconds)


async def _read_slowly(target: Target) -> dict[str, float]:
    """Long streams that their clients read a hundred bytes a second of."""
    body = (
        b'{"model":"%b","stream":true,"max_tokens":4000,"ignore_eos":true,"messages":[{"role":"user","content":"hi"}]}'
        % target.model.encode()
    )
    head = _head("/v1/chat/completions", len(body))

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        while await reader.read(20):  # noqa: ASYNC110 - it is the reader that is slow
            await asyncio.sleep(SLOW_READ_S)

    return await Crowd(target.port, 30, feed).attack(target.seconds)


async def _aborts(target: Target) -> dict[str, float]:
    """Requests whose clients leave at once, by reset."""
    body = (
        b'{"model":"%b","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hi"}]}'
        % target.model.encode()
    )
    head = _head("/v1/chat/completions", len(body))

    async def feed(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    return await Crowd(target.port, 20, feed).attack(target.seconds)


DOOR = (
    Attack(name="bodies trickle to nowhere", run=_to_nowhere, quick=True),
    Attack(name="bodies trickle to chat", run=_to_chat),
    Attack(name="idle connections", run=_idle, quick=True),
    Attack(name="halves behind requests", run=_half_behind),
    Attack(name="streams nobody reads", run=_never_read),
    Attack(name="streams read slowly", run=_read_slowly),
    Attack(name="clients that leave at once", run=_aborts),
)
