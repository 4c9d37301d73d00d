"""The door for health checks answers two questions, to few at a time, and to nobody for long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.errors import ConfigError
from router.http.public import health_door
from router.http.public.health_door import AT_ONCE, HEAD_BYTES, HealthDoor


class _Judge:
    def __init__(self) -> None:
        self.ready = (True, "")

    def __call__(self) -> tuple[bool, str]:
        return self.ready


@pytest.fixture
async def judge() -> _Judge:
    return _Judge()


@pytest.fixture
async def door(judge: _Judge) -> AsyncIterator[HealthDoor]:
    made = HealthDoor(judge)
    await made.listen("127.0.0.1", 0)
    yield made
    await made.stop()
    await made.stop()


async def says(door: HealthDoor, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"200"),
        (b"HEAD /healthz?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /readyz HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"404"),
        (b"\x00\r\n\r\n", b"404"),
    ],
)
async def test_it_answers_two_questions(door: HealthDoor, sent: bytes, status: bytes) -> None:
    assert (await says(door, sent)).startswith(b"HTTP/1.1 " + status)


async def test_a_router_that_is_not_ready_says_why(door: HealthDoor, judge: _Judge) -> None:
    judge.ready = (False, "no worker is ready yet")
    assert b"503" in (answer := await says(door, b"GET /readyz HTTP/1.1\r\n\r\n"))
    assert b"no worker is ready yet" in answer
    assert b"200" in await says(door, b"GET /healthz HTTP/1.1\r\n\r\n")


async def test_who_says_nothing_or_too_much_is_cut_off(door: HealthDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_door, "DEADLINE_S", 0.05)
    assert await says(door, b"") == b""
    assert await says(door, b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 2 * HEAD_BYTES) == b""


async def test_past_so_many_at_once_the_next_is_closed_and_then_served_again(door: HealthDoor) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(AT_ONCE)]
    await asyncio.sleep(0.05)
    assert await says(door, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    for _, writer in silent:
        writer.close()
    await asyncio.sleep(0.05)
    assert b"200" in await says(door, b"GET /healthz HTTP/1.1\r\n\r\n")


async def test_a_port_that_is_taken_is_one_line(door: HealthDoor) -> None:
    with pytest.raises(ConfigError, match=f"http.health_port {door.port}"):
        await HealthDoor(_Judge()).listen("127.0.0.1", door.port)
