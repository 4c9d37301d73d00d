"""Streams whose model has to be brought up first."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from router.errors import AllsortsError, Unavailable
from router.http.dialects.coming_up import head_with_signs
from router.http.dialects.openai.sse import SIGN_OF_LIFE
from router.http.server.exchange import Exchange

PING = b"event: ping\ndata: {}\n\n"


class SlowAnswering:
    """Its worker accepts when the test says so."""

    def __init__(self) -> None:
        self.accept: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def start(self) -> Any:
        try:
            return await self.accept
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Said:
    """An exchange that writes down what it sends."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.written: list[bytes] = []
        self.exchange = Exchange({"method": "POST", "path": "/"}, self._receive, self._send, stall_s=5.0)
        self.changed = asyncio.Event()

    async def _receive(self) -> Any:
        return await asyncio.get_running_loop().create_future()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started.append(message["status"])
        else:
            self.written.append(message["body"])
        self.changed.set()

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


class Speaks:
    """A dialect's sign."""

    def __init__(self, sign: bytes) -> None:
        self.sign_of_life = sign


def begin(answering: SlowAnswering, said: Said, sign: bytes = SIGN_OF_LIFE) -> "asyncio.Task[Any]":
    return asyncio.create_task(
        head_with_signs(
            answering,  # type: ignore[arg-type]
            said.exchange,
            Speaks(sign),  # type: ignore[arg-type]
            headers=(),
            told=lambda: "ada is loading on box, 40%",
            every_s=0.001,
        )
    )


async def test_the_stream_begins_with_comments_and_goes_on_with_the_answer() -> None:
    """Once the headers are out, comments say what is waited for."""
    said, answering = Said(), SlowAnswering()
    task = begin(answering, said)
    await said.until(lambda: len(said.written) >= 2)
    answering.accept.set_result("head")
    assert await task == "head"
    assert said.started == [200]
    assert set(said.written) == {b": ada is loading on box, 40%\n\n"}
    assert said.exchange.streaming


async def test_a_dialect_whose_sign_is_no_comment_says_its_own() -> None:
    """Words in another place would be taken for an answer."""
    said, answering = Said(), SlowAnswering()
    task = begin(answering, said, PING)
    await said.until(lambda: said.written)
    answering.accept.set_result("head")
    await task
    assert set(said.written) == {PING}


async def test_what_fails_in_the_meantime_is_raised() -> None:
    """The edge writes it as the stream's last event."""
    said, answering = Said(), SlowAnswering()
    task = begin(answering, said)
    await said.until(lambda: said.written)
    answering.accept.set_exception(Unavailable("no room"))
    with pytest.raises(AllsortsError, match="no room"):
        await task


async def test_a_client_that_leaves_ends_the_wait() -> None:
    """Nothing stays behind."""
    said, answering = Said(), SlowAnswering()
    task = begin(answering, said)
    await said.until(lambda: said.written)
    task.cancel()
    await asyncio.wait({task})
    assert answering.cancelled
