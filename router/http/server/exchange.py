"""One HTTP exchange over ASGI: its headers, its body within limits, its answer, and whether the client still listens.

A stream costs one write per chunk and nothing else: the client's disconnect is heard from the connection, or by one
task, and a client that stops reading is noticed by one timer, both per request, not per token.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import monotonic
from types import TracebackType
from typing import Any

from router.errors import BodyTooLarge, BodyTooSlow, ClientGone, UnsupportedMedia
from router.http.server.body_budget import SMALL_BYTES, BodyShare
from router.http.server.compression import ENCODINGS, unpacked
from router.http.server.pace import Pace
from router.http.streaming.direct_writes import direct_writes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
SLOWEST_BYTES_PER_S = 1024
SLOW_START_S = 5.0
"""A body that comes slower than that, once it had so long to begin, is not waited for until its deadline: each of its
bytes costs the router as much as a kilobyte would.
"""

READ_AWAY_BYTES = 64 * 1024 * 1024
READ_AWAY_S = 5.0
"""Of a body that is refused: most clients only listen once they have sent all."""

SERVER = (b"server", b"allsorts")
EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Exchange:
    """Request in, response out. ``stall_s``: a client that takes no byte for so long is given up."""

    __slots__ = (
        "_pace",
        "_receive",
        "_send",
        "_unread",
        "direct",
        "finished",
        "headers",
        "method",
        "more_headers",
        "path",
        "peer",
        "query",
        "sending_since",
        "stall_s",
        "started",
        "streaming",
        "takes_any_type",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, stall_s: float) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: dict[bytes, bytes] = {name.lower(): value for name, value in scope.get("headers", ())}
        self.peer: str = (scope.get("client") or ("",))[0]  # its address; a proxy's where there is one
        self.stall_s = stall_s
        self.more_headers: tuple[tuple[bytes, bytes], ...] = ()  # of the answer, whatever it will be
        self.started = False  # the status line is out
        self.streaming = False
        self.takes_any_type = False  # its clients do not say that their bodies are JSON
        self.finished = False  # the last byte was handed over
        self.sending_since = 0.0  # monotonic; 0: nothing is being sent
        self.direct = direct_writes(scope)  # a shorter way than ``write``, where the server has one
        self._pace: Pace | None = None  # of large bodies
        self._receive = receive
        self._send = send
        self._unread = self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers

    def header(self, name: bytes) -> str | None:
        """A header's value; bytes that are no ASCII text come out as they can."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit_bytes: int, deadline_s: float, share: BodyShare | None = None) -> bytes:
        """The whole body, unpacked; charged to ``share`` as it comes.

        Raises UnsupportedMedia, BodyTooLarge, BodiesFull, BodyTooSlow, InvalidRequest or ClientGone.
        """
        self._expect_json()
        self._pace = None if share is None else share.pace
        body = await self._read(limit_bytes, deadline_s, share)
        if self._encoding == "identity":
            return body
        if share is None:
            return await asyncio.to_thread(unpacked, body, self._encoding, limit_bytes)
        async with share.unpacking:
            plain = await asyncio.to_thread(unpacked, body, self._encoding, limit_bytes)
            share.take(len(plain))
        return plain

    async def _read(self, limit_bytes: int, deadline_s: float, share: BodyShare | None) -> bytes:
        announced = self.headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit_bytes:
            raise _too_large(limit_bytes)
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self.direct is not None and self.direct.body_came():  # nothing to wait for, and no timer for it
            return await self._take_all(limit_bytes, began, share)
        try:
            async with asyncio.timeout(deadline_s) as within:
                if share is None:
                    return await self._take_all(limit_bytes, began, None)
                with share.coming(lambda: within.reschedule(loop.time())):
                    return await self._take_all(limit_bytes, began, share)
        except TimeoutError:
            self._receive = _nothing_more  # what has not come by now is not waited for
            if share is not None and share.gave_way:
                raise share.full() from None
            raise BodyTooSlow(
                f"the request body did not arrive within {deadline_s:g} s, or came at less than "
                f"{SLOWEST_BYTES_PER_S} bytes a second"
            ) from None

    async def _take_all(self, limit_bytes: int, began: float, share: BodyShare | None) -> bytes:
        """Raises TimeoutError for a body that trickles."""
        loop = asyncio.get_running_loop()
        body = bytearray()  # grown in place: pieces that lie between others' would leave holes when they go
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client hung up while sending its request")
            part: bytes = message.get("body", b"")
            size += len(part)
            self._unread = message.get("more_body", False)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if self._unread and size < SLOWEST_BYTES_PER_S * (loop.time() - began - SLOW_START_S):
                raise TimeoutError
            if share is not None:
                share.take(len(part))
            if not (self._unread or body):
                return part
            body += part
            if not self._unread:
                return bytes(body)
            taken = len(part)
            del message, part  # what was taken over is not held until more comes
            if share is not None and size > SMALL_BYTES:
                await share.pace.took(taken)

    async def _read_away(self) -> None:
        """Take the rest of a body that is refused, within bounds; what is left is cut off with the connection."""
        announced = self.headers.get(b"content-length", b"")
        left = READ_AWAY_BYTES
        if announced.isdigit() and int(announced) > left:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_AWAY_S):
                while self._unread and left > 0:
                    message = await self._receive()
                    taken = len(message.get("body", b""))
                    left -= taken
                    if message["type"] == "http.disconnect":
                        return
                    self._unread = message.get("more_body", False)
                    del message
                    if self._pace is not None:
                        await self._pace.took(taken)

    def _expect_json(self) -> None:
        """Also keeps web pages of other origins out: they cannot send this type unasked."""
        if self.takes_any_type and not (b"origin" in self.headers or b"sec-fetch-site" in self.headers):
            self._expect_encoding()  # no browser: curl -d, as Ollama's documentation has it
            return
        kind, _, parameters = (self.header(b"content-type") or "").partition(";")
        charset = parameters.strip().lower().replace('"', "")
        if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8", "charset=utf8"):
            raise UnsupportedMedia(
                f"the content type must be application/json in UTF-8, not '{self.header(b'content-type') or ''}'"
            )
        self._expect_encoding()

    def _expect_encoding(self) -> None:
        if self._encoding not in ("identity", *ENCODINGS):
            raise UnsupportedMedia(
                f"request bodies are read plain or packed by {', '.join(ENCODINGS)}, not '{self._encoding[:50]}'"
            )

    @property
    def _encoding(self) -> str:
        return (self.header(b"content-encoding") or "identity").strip().lower()

    async def respond(self, status: int, body: bytes, *, content_type: bytes = JSON, headers: Headers = ()) -> None:
        """A whole response. Raises ClientGone when the client does not take it."""
        if self._unread:
            await self._read_away()
        try:
            async with asyncio.timeout(self.stall_s):
                await self.start(
                    status, ((b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers)
                )
                self.finished = True
                shown = b"" if self.method == "HEAD" else body
                await self._send({"type": "http.response.body", "body": shown, "more_body": False})
        except TimeoutError:
            raise ClientGone(f"the client took nothing for {self.stall_s:g} s") from None

    async def start(self, status: int, headers: Headers) -> None:
        """Status line and headers. A connection whose body was not read to its end has no further use."""
        self.started = True
        sent = [*headers, *self.more_headers, SERVER]
        if self._unread:
            sent.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": sent})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """One piece of a streamed body. Use within ``watch``, which gives up on a client that stalls."""
        if self.direct is not None:
            self.direct.flush()
        self.finished = not more
        self.sending_since = monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.sending_since = 0.0

    def watch(self) -> "Watch":
        """A section that ends with ClientGone as soon as the client hangs up or stalls. After the body was read."""
        return Watch(self, self._receive)


class Watch:
    """Cancels the task inside it when nobody reads any more, and turns that into ClientGone."""

    __slots__ = ("_exchange", "_reason", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._reason = ""

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._watcher: asyncio.Task[None] | None = None
        direct = self._exchange.direct
        if direct is None:
            self._watcher = asyncio.create_task(self._hear_disconnect())
        else:
            direct.on_gone(self._gone)
        self._timer = self._arm()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._exchange.direct is not None:
            self._exchange.direct.on_gone(None)
        self._timer.cancel()
        if self._reason and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise ClientGone(self._reason) from None

    def _gone(self) -> None:
        if not self._exchange.finished:  # servers also call it a disconnect when the response is complete
            self._give_up("the client hung up")

    async def _hear_disconnect(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":  # noqa: ASYNC110 - it is the event
                await asyncio.sleep(0)  # a server that repeats itself must not hold the loop
        except OSError:
            pass  # the connection is no more: that is what this waits for
        self._gone()

    def _arm(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._exchange.stall_s / 4, self._check_stall)

    def _check_stall(self) -> None:
        since, stall_s = self._exchange.sending_since, self._exchange.stall_s
        if since and monotonic() - since >= stall_s:
            self._give_up(f"the client took nothing for {stall_s:g} s")
        else:
            self._timer = self._arm()

    def _give_up(self, reason: str) -> None:
        if not self._reason:
            self._reason = reason
            self._task.cancel()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {limit_bytes} bytes, the limit of this server")
