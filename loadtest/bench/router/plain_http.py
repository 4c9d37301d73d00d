"""As much of an HTTP/1.1 server as a benchmark's backend needs, and no more work than that.

Acknowledges at once (TCP_QUICKACK): a proxy that writes a request in two pieces without TCP_NODELAY is not held up by
this side's delayed ACK.
"""

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"

MODELS, CHAT = "/v1/models", "/v1/chat/completions"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


class PlainHttp(asyncio.Protocol, ABC):
    """One connection, request after request. Subclasses answer in ``asked``."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""

    @abstractmethod
    def asked(self, path: str, body: bytes) -> None:
        """One whole request, the path in lower case."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket, for its acknowledgements."""
        self.transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody listens any more."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Requests, whole or in pieces."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = self._buffer[:end].decode("latin-1").lower().split("\r\n")
            if not lines[0].endswith("http/1.1"):  # a router asking whether gRPC is spoken here
                self.hang_up()
                return
            length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            self.asked(lines[0].split(" ")[1].partition("?")[0], body)

    def write(self, data: bytes) -> None:
        """Send, unless nobody listens."""
        if self.transport is not None:
            self.transport.write(data)

    def begin_stream(self, *headers: bytes) -> None:
        """The head of an event stream."""
        self.write(_STREAM_HEAD + b"".join(header + b"\r\n" for header in headers) + b"\r\n")

    def whole(self, body: Mapping[str, Any], status: int = 200) -> None:
        """A JSON answer."""
        data = json.dumps(body).encode()
        head = b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(data))
        self.write(head + data)

    def hang_up(self) -> None:
        """Close."""
        if self.transport is not None:
            self.transport.close()


def listed(names: list[str]) -> dict[str, Any]:
    """A model list."""
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "bench"} for name in names]}
