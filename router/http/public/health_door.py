"""A door of its own for health checks: whoever looks after this router gets in, however full the clients' door is.

It answers ``/healthz`` and ``/readyz`` as the other does, once for each connection, and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import structlog

from router.errors import ConfigError

log = structlog.get_logger()

DEADLINE_S = 2.0
HEAD_BYTES = 4096
AT_ONCE = 64

_REASONS = {200: b"200 OK", 404: b"404 Not Found", 503: b"503 Service Unavailable"}


class HealthDoor:
    """``ready`` says whether requests can be served, and why not."""

    def __init__(self, ready: Callable[[], tuple[bool, str]]) -> None:
        self._ready = ready
        self._open = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self, host: str, port: int) -> None:
        """Raises ConfigError when the port cannot be had."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES)
        except OSError as error:
            raise ConfigError(f"http.health_port {port} on {host}: {error.strerror or error}; choose another") from None
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("health.listening", host=host, port=self.port)

    async def stop(self) -> None:
        """Answer nobody any more. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._open < AT_ONCE:
                self._open += 1
                try:
                    await self._answer(reader, writer)
                finally:
                    self._open -= 1
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(DEADLINE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = self._judge(head)
                told = (
                    b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                )
                writer.write(told % (_REASONS[status], len(body)) + body)
                await writer.drain()

    def _judge(self, head: bytes) -> tuple[int, bytes]:
        words = head.split(b" ", 2)
        path = words[1].partition(b"?")[0] if len(words) > 2 and words[0] in (b"GET", b"HEAD") else b""
        if path == b"/healthz":
            return 200, msgspec.json.encode({"status": "ok"})
        if path == b"/readyz":
            ready, reason = self._ready()
            told = {"status": "ready" if ready else "not ready", "reason": reason}
            return (200 if ready else 503), msgspec.json.encode(told)
        return 404, msgspec.json.encode({"status": "this door answers GET /healthz and GET /readyz"})
