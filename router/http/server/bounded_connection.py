"""uvicorn's connection with bounds it lacks: how long a request's head may take, how large it may be, and how many
connections there are (``connection_book``).

Ray Serve's HAProxy has the like (``router/ray/haproxy.sh``). The body's bounds are ``HttpConfig``'s. What is wrong with
a request never stands in the answer to the one before it: a connection with an answer under way is closed behind it.
"""

import asyncio
from typing import Any

from router.http.server.connection_book import ConnectionBook
from router.http.streaming.direct_writes import DirectConnection

HEAD_DEADLINE_S = 10.0
"""From the connection, or from a request's first byte on one that is kept open, to the end of its headers."""

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers together."""


THIN_OUT_S = 0.1


class BoundedConnection(DirectConnection):
    """Give it to uvicorn as ``http``, with ``functools.partial`` for its ``book`` and ``outflow``."""

    def __init__(self, *args: Any, book: ConnectionBook | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._book = book
        self._head_bytes = 0
        self._reading_head = False
        self._late: asyncio.TimerHandle | None = None
        self._close_behind = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client connected: its first head is due."""
        super().connection_made(transport)
        self._expect_head()
        if self._book is not None:
            peer = transport.get_extra_info("peername")
            self._book.opened(self, str(peer[0]) if peer else "")
            if self._book.crowded:
                self._thin_out_soon(self._book)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._head_came()
        if self._book is not None:
            self._book.closed(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Others need the room."""
        self._head_came()
        self.transport.abort()

    def _thin_out_soon(self, book: ConnectionBook) -> None:
        """Once for the whole book, again and again while there is a crowd."""
        if not book.watched:
            book.watched = True
            self.loop.call_later(THIN_OUT_S, _thin_out, self.loop, book)

    def on_message_begin(self) -> None:
        """The first byte of a request. Most heads come in one piece and need no deadline (``data_received``)."""
        self._reading_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is here. Raises ValueError for one that is too large: the parser answers with a 400."""
        too_large = sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEAD_LIMIT_BYTES
        self._head_came()
        if too_large:
            raise ValueError("the request's head is too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._book is not None:
            self._book.busy(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Whatever waits behind it begins now, its deadline too."""
        if self._close_behind:
            self.transport.close()
        super().on_response_complete()
        if self._book is not None and not self._answering:
            self._book.waits(self)
        if self._reading_head and self._late is None:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that goes on and on is cut off."""
        self._head_bytes = len(data) + (self._head_bytes if self._reading_head else 0)
        super().data_received(data)
        if not self._reading_head:
            return
        if self._late is None:
            self._expect_head()
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP: uvicorn's answer, where none is under way."""
        if not self._shut_behind():
            super().send_400_response(msg)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        """While an answer is under way the next head may take its time: it would only wait."""
        self._reading_head = True
        self._late = None
        if not self._answering:
            self._late = self.loop.call_later(HEAD_DEADLINE_S, self._refuse, b"408 Request Timeout")

    def _head_came(self) -> None:
        self._reading_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: bytes) -> None:
        self._head_came()
        if self.transport.is_closing() or self._shut_behind():
            return
        if self._head_bytes:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def _shut_behind(self) -> bool:
        """Read no more and close behind the answer under way; False when none is."""
        if not self._answering:
            return False
        self._close_behind = True
        self.flow.pause_reading()
        return True


def _thin_out(loop: asyncio.AbstractEventLoop, book: ConnectionBook) -> None:
    book.thin_out()
    book.watched = book.crowded
    if book.watched:
        loop.call_later(THIN_OUT_S, _thin_out, loop, book)
