"""HTTP to one server: questions with a deadline, and streamed answers. Nobody else here knows the HTTP library."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp

CONNECT_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 120.0
"""Between two parts of an answer; a long prompt may take as long before the first."""

MAX_PROBE_BYTES = 8 * 2**20
PROBE_CONNECTIONS = 2


class Unreachable(Exception):
    """No answer, or it broke off; one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A whole answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """What it says; None when that is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Reply:
    """The head of a streamed answer, and its parts as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.content_type

    async def parts(self) -> AsyncIterator[bytes]:
        """Bytes as they arrive. Raises Unreachable when the connection breaks or says nothing for too long."""
        try:
            async for part in self._response.content.iter_any():
                yield part
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(why(error)) from error

    async def body(self, limit: int) -> bytes:
        """The first ``limit`` bytes of it. Raises Unreachable."""
        read = bytearray()
        async for part in self.parts():
            read += part
            if len(read) >= limit:
                break
        return bytes(read[:limit])


class ServerClient:
    """Jobs have as many connections as there are jobs: who may run is counted before. Probes have their own, so that a
    server full of jobs is not taken for dead.
    """

    def __init__(self, base_url: str, api_key: str = "") -> None:
        self.base_url = base_url.rstrip("/") + "/"
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._jobs = self._session(headers, connections=0)
        self._probes = self._session(headers, connections=PROBE_CONNECTIONS)

    @staticmethod
    def _session(headers: dict[str, str], *, connections: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=30),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=LONGEST_PAUSE_S),
        )

    def _url(self, path: str) -> str:
        return urljoin(self.base_url, path)

    async def ask(
        self, path: str, *, method: str = "GET", body: Any = None, timeout_s: float = PROBE_TIMEOUT_S
    ) -> Told:
        """A whole answer, MAX_PROBE_BYTES of it at most. ``path`` is under the base URL, or begins with / for the
        server's root. Raises Unreachable.
        """
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with self._probes.request(method, self._url(path), json=body, timeout=timeout) as response:
                return Told(status=response.status, body=await response.content.read(MAX_PROBE_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(why(error)) from error

    @asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncIterator[Reply]:
        """A POST of JSON whose answer is read as it comes; leaving the block early closes the connection, which is how
        servers learn that nobody listens. Raises Unreachable.
        """
        response = await self._post(path, body)
        try:
            yield Reply(response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _post(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """Sent once more when an idle connection turns out to have been closed by the server meanwhile."""
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        for attempt in (1, 2):
            try:
                return await self._jobs.post(self._url(path), data=body, headers=headers)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
                if attempt == 2:
                    raise Unreachable(why(error)) from error
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise Unreachable(why(error)) from error
        raise AssertionError("two attempts end in a return or an error")

    async def close(self) -> None:
        """End all connections."""
        await self._jobs.close()
        await self._probes.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def why(error: BaseException) -> str:
    """In one line. A deadline that passed has no words of its own."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split())[:200] or type(error).__name__
