"""A router replica's session end without a socket: the same ``SessionEnd`` as over gRPC, fed by hand.

What a network does to a session is asked for: no answer, no welcome, a call that breaks, a router that stops reading.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.fleet_servicer import SessionEnd
from tests.support.until import until_changed


def status(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """What a call raises when the router ends it with an error."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


class Call:
    """Implements ``workers.session.channel.SessionCall``."""

    def __init__(self, router: "SocketlessRouter", address: str) -> None:
        self.address = address
        self.end: SessionEnd | None = None  # once hello was said
        self.finished = False  # by the worker, in good order
        self.cancelled = False
        self._router = router
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, **command: Any) -> None:
        assert self.end is not None
        self._inbox.put_nowait(pb.RouterCommand(sequence=self.end.send(**command), **command))

    def hang_up(self) -> None:
        self._inbox.put_nowait(grpc.aio.EOF)

    def fail(self, error: BaseException) -> None:
        self._inbox.put_nowait(error)

    async def read(self) -> Any:
        message = await self._inbox.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def write(self, message: pb.WorkerEvent) -> None:
        if self.end is None:
            self.end = self._router.greet(self, message.hello)
            return
        await self._router.reading.wait()
        self.end.heard(message)

    async def done_writing(self) -> None:
        self.finished = True
        self.hang_up()

    def cancel(self) -> bool:
        if not self.cancelled:
            self.cancelled = True
            self.fail(asyncio.CancelledError())
        return True


class SocketlessRouter:
    """Every address leads here; each dial is a call. ``welcomes`` off: it never says welcome."""

    def __init__(self, replica_id: str = "replica-0") -> None:
        self.replica_id = replica_id
        self.version = ""
        self.replicas: list[pb.Replica] = []
        self.calls: list[Call] = []
        self.welcomes = True
        self.refusal: BaseException | None = None  # what every new call ends with
        self.unreachable: OSError | None = None
        self.dials = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[Call]:
        self.dials += 1
        self._changed.set()
        if self.unreachable is not None:
            raise self.unreachable
        yield Call(self, address)

    def greet(self, call: Call, hello: pb.Hello) -> SessionEnd:
        end = SessionEnd(hello)
        self.calls.append(call)
        self._changed.set()
        if self.refusal is not None:
            call.fail(self.refusal)
        elif self.welcomes:
            call.end = end
            call.send(
                welcome=pb.Welcome(
                    replica_id=self.replica_id, protocol_version=1, replicas=self.replicas, version=self.version
                )
            )
        return end

    async def session(self, number: int = 1) -> "Session":
        """The n-th call on which hello was said, counted from 1."""
        await until_changed(self._changed, lambda: len(self.calls) >= number)
        return Session(self.calls[number - 1])

    async def dialled(self, times: int) -> None:
        await until_changed(self._changed, lambda: self.dials >= times)


class Session:
    """One call and what was heard on it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        assert call.end is not None
        self.end = call.end
        self.send = call.send
        self.hang_up = call.hang_up
        self.fail = call.fail
        self.until, self.of, self.text, self.finish = self.end.until, self.end.of, self.end.text, self.end.finish
        self.hello = self.end.hello

    async def ready(self, model: str = "echo") -> "Session":
        await self.until(lambda one: one.model_state(model) == pb.MODEL_STATE_READY)
        return self
