"""The server under test, over gevent: connections kept open, one request streamed, each event timed as it arrives."""

import time
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import gevent
import gevent.socket
import gevent.ssl
import msgspec
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from loadtest.locust.endpoint.heard import Heard

CONNECT_S = 10.0
UNFINISHED = "unfinished"
"""Code of what was cut off at the end of a run: it counts, as not in time."""


class _NewOnes:
    """Connections that were opened and not yet used."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._unused: WeakSet[gevent.socket.socket] = WeakSet()
        super().__init__(*args, **more)

    def after_connect(self, sock: gevent.socket.socket) -> None:
        """No Nagle: a request goes out when it is written."""
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        self._unused.add(sock)

    def is_new(self, sock: gevent.socket.socket) -> bool:
        """Asked once, as it is taken for a request."""
        new = sock in self._unused
        self._unused.discard(sock)
        return new


class _Plain(_NewOnes, ConnectionPool):
    """Without TLS."""


class _Secure(_NewOnes, SSLConnectionPool):
    """TLS by the system's authorities."""


class Endpoint:
    """Requests to one server. ``connections``: most that are open at once; who would need more waits.

    ``deadline_s``: for one request, from sending to its last byte. ``url`` may or may not end with ``/v1``.
    """

    def __init__(self, url: str, *, api_key: str = "", connections: int = 4096, deadline_s: float = 600.0) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80)
        self._pool = (_Secure if secure else _Plain)(
            host, port, host, port, size=connections, connection_timeout=CONNECT_S, network_timeout=deadline_s
        )
        self._where = f"{host}:{port}"
        self._base = parts.path.rstrip("/") or "/v1"
        self._deadline_s = deadline_s
        key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._head = f"Host: {parts.netloc}\r\nAccept: */*\r\nContent-Type: application/json\r\n{key}"

    def stream(self, path: str, body: dict[str, Any]) -> Heard:
        """POST and read to the end; never raises: what went wrong is in the answer."""
        heard = Heard()
        payload = msgspec.json.encode(body)
        head = f"POST {self._base}{path} HTTP/1.1\r\n{self._head}Content-Length: {len(payload)}\r\n\r\n"
        heard.sent = time.perf_counter()
        try:
            with gevent.Timeout(self._deadline_s):
                reply = self._ask("POST", head.encode("latin-1") + payload, heard)
                try:
                    _read(reply, heard)
                finally:
                    reply.release()
        except gevent.Timeout:
            heard.failed("deadline", f"not complete after {self._deadline_s:g} s")
        except (OSError, HTTPParseError) as error:
            heard.failed("connection", f"{type(error).__name__}: {error}")
        except gevent.GreenletExit:
            heard.failed(UNFINISHED, "not complete when the run was over")
        heard.ended = time.perf_counter()
        return heard

    def accepts(self, body: dict[str, Any]) -> tuple[bool, str]:
        """Whether a chat request with this body is answered, and what was said when it is not. Raises OSError."""
        payload = msgspec.json.encode(body)
        head = f"POST {self._base}/chat/completions HTTP/1.1\r\n{self._head}Content-Length: {len(payload)}\r\n\r\n"
        with gevent.Timeout(
            self._deadline_s, TimeoutError(f"no answer from {self._where} within {self._deadline_s:g} s")
        ):
            reply = self._ask("POST", head.encode("latin-1") + payload)
            heard = Heard()
            try:
                heard.answered(int(reply.status_code), {})
                said = bytes(reply.read())
            finally:
                reply.release()
        if heard.status == 200:
            return True, ""
        heard.refused(said)
        return False, heard.error

    def get(self, path: str, *, deadline_s: float = 10.0) -> Any:
        """JSON (or text that is none) at ``path``, from the server's root; None where there is nothing to read."""
        try:
            with gevent.Timeout(deadline_s):
                reply = self._ask("GET", f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode("latin-1"))
                try:
                    body = bytes(reply.read())
                finally:
                    reply.release()
        except (gevent.Timeout, OSError, HTTPParseError):
            return None
        if reply.status_code != 200:
            return None
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body.decode("utf-8", "replace")

    def close(self) -> None:
        """End the connections that are kept."""
        self._pool.close()

    def models(self) -> list[str]:
        """Ids the endpoint lists."""
        listed = self.get(f"{self._base}/models")
        rows = listed.get("data") if isinstance(listed, dict) else None
        return [str(row["id"]) for row in rows or () if isinstance(row, dict) and "id" in row]

    def _ask(self, method: str, request: bytes, heard: Heard | None = None) -> HTTPSocketPoolResponse:
        """Send, read the answer's head. Kept connections that the server closes meanwhile are tried until one is new: a
        server that stood still for seconds closes all that are kept, those too over which it was just asked.
        """
        while True:
            sock = self._pool.get_socket()
            last = self._pool.is_new(sock)
            try:
                sock.sendall(request)
                if heard is not None:
                    heard.written = time.perf_counter()
            except BaseException as error:
                self._pool.release_socket(sock)
                if last or not isinstance(error, OSError):
                    raise
                continue
            try:
                return HTTPSocketPoolResponse(sock, self._pool, method=method)  # gives the socket back by itself
            except HTTPConnectionClosed:
                if last:
                    raise


def _read(reply: HTTPSocketPoolResponse, heard: Heard) -> None:
    heard.answered(int(reply.status_code), {str(name).lower(): str(value) for name, value in reply.headers})
    if heard.status != 200:
        heard.refused(bytes(reply.read()))
        return
    while line := reply.readline(b"\n"):
        if line.startswith(b"data:"):
            heard.event(line[5:].strip(), time.perf_counter())
    if not heard.done:
        heard.failed("broken", "the stream ended without [DONE]")
