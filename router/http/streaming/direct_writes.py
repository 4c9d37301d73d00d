"""Pieces of a streamed body handed to uvicorn's transport without a coroutine for each.

ASGI's ``send`` is a coroutine: whoever calls it must be a task, and waking a task for each token costs more than the
token. A connection of ours offers each request a ``DirectWrites`` in its scope, under ASGI's ``extensions``. It writes
what uvicorn itself would write, and only between a response's start and its end, while its client keeps up; everything
else is ``send``'s. A server that has no such extension (another ASGI server, a test) costs speed, nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from router.http.streaming.outflow import Outflow

EXTENSION = "allsorts.direct_writes"


class DirectWrites:
    """Of one response."""

    __slots__ = ("_cycle", "_gone", "_outflow", "_parts")

    def __init__(self, cycle: RequestResponseCycle, outflow: Outflow) -> None:
        self._cycle = cycle
        self._outflow = outflow
        self._parts: list[bytes] = []
        self._gone: Callable[[], None] | None = None

    def on_gone(self, gone: Callable[[], None] | None) -> None:
        """Call this once the connection is lost, which may be now; None: no longer. After the body was read."""
        self._gone = gone
        if gone is not None:
            if self._cycle.disconnected:
                gone()
            else:
                self._cycle.flow.resume_reading()  # of a socket that is not read nobody hears that it was closed

    def body_came(self) -> bool:
        """Whether the request's body is here to its end: whoever asks for it does not wait."""
        return not self._cycle.more_body

    def lost(self) -> None:
        """The connection is."""
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    def ready(self) -> bool:
        """Whether ``write`` may be called now: the response runs, and its client takes what comes."""
        cycle = self._cycle
        return not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete) and (
            cycle.chunked_encoding is True
        )

    def write(self, data: bytes) -> None:
        """A piece of the body, soon; joined to those that come before it is out. Not empty. Ask ``ready`` first."""
        if not self._parts:
            self._outflow.add(self)
        self._parts.append(data)

    def flush(self) -> None:
        """Now: before anything is sent in another way."""
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        if self._cycle.disconnected or self._cycle.response_complete:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


class DirectConnection(HttpToolsProtocol):  # type: ignore[misc]  # httptools has no types
    """uvicorn's connection, with ``DirectWrites`` for each request. ``outflow``: that of all connections of a loop."""

    def __init__(self, *args: Any, outflow: Outflow | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._outflow = Outflow() if outflow is None else outflow

    def on_headers_complete(self) -> None:
        """A request begins; its task has not run yet."""
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            self.scope["extensions"] = {EXTENSION: DirectWrites(cycle, self._outflow)}

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever answers hears of it."""
        super().connection_lost(exc)
        direct = None if self.cycle is None else direct_writes(self.cycle.scope)
        if direct is not None:
            direct.lost()


def direct_writes(scope: Mapping[str, Any]) -> DirectWrites | None:
    """Those of a request, where its server has them."""
    found = (scope.get("extensions") or {}).get(EXTENSION)
    return found if isinstance(found, DirectWrites) else None
