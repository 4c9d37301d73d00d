"""A session's events as they come, each within its bounds before it is built, and large ones built beside the loop."""

import asyncio
from typing import Any

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.validation import OutOfBounds
from router.sessions.reading.event_bounds import read_event

SHORT_BYTES = 32 * 1024
"""Up to this size an event is read where it arrived: some milliseconds, whatever it holds."""


class EventReader:
    """Of one session. ``context``: gRPC's, of a call whose requests come as bytes; ``building``: one for all sessions
    of a router, since more at once would only wait for the interpreter, and hold more memory.
    """

    def __init__(self, context: Any, building: asyncio.Semaphore) -> None:
        self._context = context
        self._building = building

    async def first(self, most_bytes: int) -> pb.WorkerEvent | None:
        """As ``next``, and no larger than that."""
        return await self._read(most_bytes, "hello")

    async def next(self) -> pb.WorkerEvent | None:
        """The next event; None: the worker has ended the call. Raises OutOfBounds, DecodeError."""
        return await self._read(None, "an event")

    async def _read(self, most_bytes: int | None, what: str) -> pb.WorkerEvent | None:
        raw = await self._context.read()
        if raw is grpc.aio.EOF:
            return None
        if most_bytes is not None and len(raw) > most_bytes:
            raise OutOfBounds(f"{what} has {len(raw)} bytes, more than {most_bytes}")
        if len(raw) <= SHORT_BYTES:
            return read_event(raw)
        async with self._building:
            return await asyncio.to_thread(read_event, raw)
