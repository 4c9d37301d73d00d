"""uvicorn's connection with bounds it lacks: how long a request's head may take, and how large it may be.

Ray Serve's HAProxy has both (``router/ray/haproxy.sh`` sets the time). The body's bounds are ``HttpConfig``'s.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_DEADLINE_S = 10.0
"""From the connection, or from a request's first byte on one that is kept open, to the end of its headers."""

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers together."""


class BoundedConnection(HttpToolsProtocol):  # type: ignore[misc]  # httptools has no types
    """Give it to uvicorn as ``http``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._head_bytes = 0
        self._reading_head = False
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client connected: its first head is due."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self._reading_head:
            self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is here. Raises ValueError for one that is too large: the parser answers with a 400."""
        too_large = sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEAD_LIMIT_BYTES
        self._head_came()
        if too_large:
            raise ValueError("the request's head is too large")
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that goes on and on is cut off."""
        self._head_bytes = len(data) + (self._head_bytes if self._reading_head else 0)
        super().data_received(data)
        if self._reading_head and self._head_bytes > HEAD_LIMIT_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def _expect_head(self) -> None:
        self._reading_head = True
        self._late = self.loop.call_later(HEAD_DEADLINE_S, self._refuse, b"408 Request Timeout")

    def _head_came(self) -> None:
        self._reading_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: bytes) -> None:
        self._head_came()
        if not self.transport.is_closing():
            if self._head_bytes:
                self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
