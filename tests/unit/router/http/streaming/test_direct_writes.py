"""Pieces written past ``send``: whole, in order, and only while a response runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvicorn

from router.http.streaming.direct_writes import DirectConnection, direct_writes
from router.http.streaming.outflow import Outflow
from tests.support.until import until_async

Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Any, Send], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\n"
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer_of(app: App, asked: bytes = GET) -> bytes:
    """What a client hears of ``app``, under uvicorn."""
    config = uvicorn.Config(
        cast("Any", app), http=DirectConnection, host="127.0.0.1", port=0, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until_async(lambda: server.started, "uvicorn serves", every_s=0.005)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname()[:2])
        writer.write(asked)
        async with asyncio.timeout(60):
            heard = await reader.read()
        writer.close()
        return heard
    finally:
        server.should_exit = True
        await task


def body_of(heard: bytes) -> tuple[bytes, int]:
    """The body put together, and of how many chunks."""
    rest, body, chunks = heard.partition(b"\r\n\r\n")[2], b"", 0
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return body, chunks
        body, rest, chunks = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :], chunks + 1


async def test_direct_and_other_pieces_come_in_the_order_they_were_written() -> None:
    """Those of one turn in one chunk, and all of them before what is sent after a flush."""

    async def app(scope: dict[str, Any], _receive: Any, send: Send) -> None:
        direct = direct_writes(scope)
        assert direct is not None
        assert not direct.ready()  # nothing has begun
        await send(START)
        assert direct.ready()
        await send(piece(b"one "))
        direct.write(b"two ")
        direct.write(b"three ")
        await asyncio.sleep(0.01)
        direct.write(b"four ")
        direct.flush()
        await send(piece(b"five", more=False))
        assert not direct.ready()
        direct.flush()

    assert body_of(await answer_of(app)) == (b"one two three four five", 4)


async def test_a_client_that_does_not_keep_up_is_not_written_to_directly() -> None:
    """Then ``send`` waits for it."""
    seen: list[bool] = []

    async def app(scope: dict[str, Any], _receive: Any, send: Send) -> None:
        direct = direct_writes(scope)
        assert direct is not None
        await send(START)
        flow = direct._cycle.flow
        flow.pause_writing()
        seen.append(direct.ready())
        flow.resume_writing()
        seen.append(direct.ready())
        await send(piece(b"", more=False))

    await answer_of(app)
    assert seen == [False, True]


def test_a_server_without_the_extension_has_none() -> None:
    """Whatever else it offers."""
    assert direct_writes({}) is None
    assert direct_writes({"extensions": {"http.response.trailers": {}}}) is None
    assert direct_writes({"extensions": None}) is None


class _Stream:
    """Notes when it was flushed."""

    def __init__(self, outflow: Outflow, said: list[str]) -> None:
        self._outflow = outflow
        self._said = said

    def say(self, name: str) -> None:
        self._outflow.add(self)
        self._said.append(name)

    def flush(self) -> None:
        self._said.append("flush")


async def test_all_of_a_turn_goes_out_together_and_the_next_turn_again() -> None:
    """Nothing waits for a turn that does not come."""
    outflow, said = Outflow(), list[str]()
    one, other = _Stream(outflow, said), _Stream(outflow, said)
    one.say("a")
    other.say("b")
    assert said == ["a", "b"]
    await until_async(lambda: len(said) == 4, "both are flushed", every_s=0.001)
    one.say("c")
    await until_async(lambda: said[4:] == ["c", "flush"], "and once more", every_s=0.001)


async def test_a_body_that_is_here_is_told_from_one_that_comes() -> None:
    """One that came with its head needs no deadline; of one that is awaited nobody may say so."""
    found: list[tuple[bool, bytes]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
        direct = direct_writes(scope)
        assert direct is not None
        came = direct.body_came()
        message = await receive() if came else {"body": b""}
        found.append((came, message["body"]))
        await send(START)
        await send(piece(b"", more=False))

    for said in (b"five!", b"fi"):
        await answer_of(app, POST + said)
    assert found == [(True, b"five!"), (False, b"")]
