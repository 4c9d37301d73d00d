"""A request's head has a deadline and a size, on a real socket under uvicorn."""

import asyncio
import contextlib

import pytest

from router.app import RouterNode
from router.config import RouterConfig
from router.http.server import bounded_connection, connection_book
from router.http.server.connection_book import ConnectionBook
from tests.support.http_surface import on_loopback, surface

GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
HANDSHAKE = (
    b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


async def answer_to(url: str, *parts: bytes) -> bytes:
    """All that comes back until the server closes. Each part is sent once the one before was answered, if it was."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        for number, part in enumerate(parts):
            if number:
                answer += await reader.readuntil(b'"ok"}')
            writer.write(part)
        async with asyncio.timeout(60):
            return answer + await reader.read()
    except ConnectionResetError:  # closed while we still sent
        return answer
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"",), b""),
        ((GET + b"x-half: a line that never en",), b"HTTP/1.1 408"),
        ((GET + b"\r\n", GET + b"x-second: on the same connection"), b"HTTP/1.1 408"),
    ],
)
async def test_a_head_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, ...], status: bytes
) -> None:
    """Idle, half a line, and half a second request: none holds a connection for longer than the deadline."""
    monkeypatch.setattr(bounded_connection, "HEAD_DEADLINE_S", 0.1)
    async with on_loopback(surface().app) as url:
        answer = await answer_to(url, *sent)
    last = answer.rpartition(b'"ok"}')[2]
    assert last.startswith(status)
    assert bool(last) is bool(status)


async def test_a_crowd_that_says_nothing_is_thinned_out_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not somebody else comes; its last stay, and are answered."""
    monkeypatch.setattr(bounded_connection, "THIN_OUT_S", 0.01)
    monkeypatch.setattr(connection_book, "CROWD", 3)
    monkeypatch.setattr(connection_book, "CROWDED_S", 0.05)
    async with on_loopback(surface().app, book=connection_book.ConnectionBook(100)) as url:
        host, port = url.removeprefix("http://").split(":")
        there = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
        try:
            async with asyncio.timeout(60):
                for reader, _ in there[:5]:
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
                for reader, writer in there[5:]:
                    writer.write(GET + b"connection: close\r\n\r\n")
                    assert b'{"status":"ok"}' in await reader.read()
        finally:
            for _, writer in there:
                writer.close()


async def test_a_request_under_way_has_no_deadline_for_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take longer than a head may."""
    monkeypatch.setattr(bounded_connection, "HEAD_DEADLINE_S", 0.1)
    on = surface()
    on.pipeline.gate.clear()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with on_loopback(on.app) as url:
        asking = asyncio.create_task(answer_to(url, head + body))
        await on.pipeline.started.wait()
        assert await answer_to(url, b"") == b""  # that long: another connection ran into the deadline meanwhile
        on.pipeline.gate.set()
        assert b"Paris is the capital." in await asking


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x-long: " + b"y" * 70_000 + b"\r\n\r\n",
        GET + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        GET + b"x-endless: " + b"y" * 2_000_000,
    ],
    ids=["one long header", "a flood of headers", "a long path", "a header without end"],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    """With its status, or, where the client was still sending, by the connection's end. The server goes on."""
    async with on_loopback(surface().app) as url:
        answer = await answer_to(url, head)
        assert answer[9:12] in (b"400", b"431", b"")
        assert b'{"status":"ok"}' in await answer_to(url, GET + b"connection: close\r\n\r\n")


async def test_a_websocket_is_refused_without_an_error() -> None:
    """Nothing here speaks it; a client that tries gets a 403 and leaves no traceback."""
    async with on_loopback(RouterNode(RouterConfig())) as url:
        assert (await answer_to(url, HANDSHAKE)).startswith(b"HTTP/1.1 403")


CHAT = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
ASKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(CHAT)
) + CHAT


@pytest.mark.parametrize(
    "behind",
    [
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: a line that never en",
        b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * (bounded_connection.HEAD_LIMIT_BYTES + 1),
        b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * (bounded_connection.HEAD_LIMIT_BYTES + 1) + b"\r\n\r\n",
        b"\x00\x01 this is no HTTP\r\n\r\n",
    ],
    ids=["half", "endless", "too large", "garbage"],
)
async def test_nothing_that_comes_behind_a_request_stands_in_its_answer(
    monkeypatch: pytest.MonkeyPatch, behind: bytes
) -> None:
    """A stream is whole, up to its [DONE]; the connection ends behind it."""
    monkeypatch.setattr(bounded_connection, "HEAD_DEADLINE_S", 0.1)
    on = surface()
    on.pipeline.gate.clear()
    async with on_loopback(on.app) as url:
        asking = asyncio.create_task(answer_to(url, ASKED + behind))
        await on.pipeline.started.wait()
        assert await answer_to(url, b"") == b""  # that long: another connection ran into the deadline meanwhile
        on.pipeline.gate.set()
        answer = await asking
    stream, done, rest = answer.partition(b"[DONE]")
    assert done
    assert stream.count(b"HTTP/1.1") == 1
    assert not any(words in stream for words in (b"Request Timeout", b"Too Large", b"Bad Request", b"Invalid HTTP"))
    assert b"200" not in rest.partition(b"\r\n")[0]


async def test_whole_requests_behind_one_another_are_answered_in_turn() -> None:
    """Pipelining is HTTP's own; the bounds leave it alone."""
    async with on_loopback(surface().app) as url:
        closing = GET + b"connection: close\r\n\r\n"
        assert (await answer_to(url, GET + b"\r\n" + GET + b"\r\n" + closing)).count(b"HTTP/1.1 200") == 3


async def test_at_the_limit_those_that_say_nothing_give_way() -> None:
    """A crowd of silent connections is closed for one that asks."""
    async with on_loopback(surface().app, book=ConnectionBook(5)) as url:
        host, port = url.removeprefix("http://").split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(12)]
        assert b"200 OK" in await answer_to(url, GET + b"connection: close\r\n\r\n")
        for reader, writer in silent[:7]:
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        for _, writer in silent[7:]:
            writer.close()
