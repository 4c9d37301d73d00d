"""A router replica's session end as a test sees it: a real grpc.aio server that keeps what workers say."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetServicer, add_FleetServicer_to_server
from tests.support.until import WITHIN_S, until_changed


class SessionEnd:
    """One accepted session: events as they come, commands to send."""

    def __init__(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.events: list[pb.WorkerEvent] = []
        self.ended = asyncio.Event()
        self._deltas: dict[str, list[pb.Delta]] = defaultdict(list)
        self._commands: asyncio.Queue[pb.RouterCommand | None] = asyncio.Queue()
        self._sequence = 0
        self._changed = asyncio.Event()

    def send(self, **command: Any) -> int:
        self._sequence += 1
        self._commands.put_nowait(pb.RouterCommand(sequence=self._sequence, **command))
        return self._sequence

    def hang_up(self) -> None:
        self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[pb.RouterCommand]:
        while (command := await self._commands.get()) is not None:
            yield command

    def heard(self, event: pb.WorkerEvent) -> None:
        self.events.append(event)
        for delta in event.step.deltas:
            self._deltas[delta.request_id].append(delta)
        self._changed.set()

    async def until(self, found: Callable[["SessionEnd"], Any], timeout_s: float = WITHIN_S) -> Any:
        """Wait until ``found(self)`` is truthy; gives it back."""
        return await until_changed(self._changed, lambda: found(self), within_s=timeout_s)

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    def deltas(self, request_id: str) -> list[pb.Delta]:
        return self._deltas[request_id]

    def text(self, request_id: str) -> str:
        return "".join(delta.text for delta in self.deltas(request_id))

    def finish(self, request_id: str) -> pb.Delta | None:
        return next((delta for delta in self.deltas(request_id)[-1:] if delta.finish_reason), None)

    def loads(self) -> list[pb.Load]:
        return [step.load for step in self.of("step") if step.HasField("load")]

    def model_state(self, model: str) -> int:
        states = [one.state for one in self.hello.models if one.model == model]
        states += [one.model.state for one in self.of("model_progress") if one.model.model == model]
        return states[-1] if states else 0


class Fleet(FleetServicer):  # type: ignore[misc]
    """Accepts every worker; ``reading`` can be cleared to stop taking events."""

    def __init__(self, replica_id: str = "replica-0") -> None:
        self.replica_id = replica_id
        self.replicas: list[pb.Replica] = []
        self.enrolled: list[pb.EnrolRequest] = []
        self.known: set[str] = set()
        self.sessions: list[SessionEnd] = []
        self.opened: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.reading = asyncio.Event()
        self.reading.set()
        self.address = ""

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802
        self.enrolled.append(request)
        worker_id = f"worker-{len(self.enrolled)}"
        self.known.add(worker_id)
        return pb.EnrolReply(worker_id=worker_id, replicas=self.replicas)

    async def Session(  # noqa: N802
        self, events: AsyncIterator[pb.WorkerEvent], context: Any
    ) -> AsyncIterator[pb.RouterCommand]:
        first = await anext(aiter(events))
        if first.hello.worker_id not in self.known:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this worker is not known here")
        end = SessionEnd(first.hello)
        self.sessions.append(end)
        end.send(
            welcome=pb.Welcome(
                replica_id=self.replica_id, protocol_version=1, node=first.hello.profile.node, replicas=self.replicas
            )
        )
        reader = asyncio.create_task(self._read(events, end))
        self.opened[len(self.sessions)].set()
        try:
            async for command in end.commands():
                yield command
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            end.ended.set()

    async def _read(self, events: AsyncIterator[pb.WorkerEvent], end: SessionEnd) -> None:
        try:
            while True:
                await self.reading.wait()
                end.heard(await anext(events))
        except StopAsyncIteration:
            end.hang_up()

    async def session(self, number: int = 1, timeout_s: float = WITHIN_S) -> SessionEnd:
        """The n-th session opened here, counted from 1."""
        await asyncio.wait_for(self.opened[number].wait(), timeout_s)
        return self.sessions[number - 1]


@contextlib.asynccontextmanager
async def serving(fleet: Fleet) -> AsyncIterator[Fleet]:
    """The fleet on a free loopback port."""
    server = grpc.aio.server(
        options=[
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.max_receive_message_length", 16 * 2**20),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.bdp_probe", 0),  # a window that does not grow: who stops reading is soon felt
        ]
    )
    add_FleetServicer_to_server(fleet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    fleet.address = f"127.0.0.1:{port}"
    if not fleet.replicas:
        fleet.replicas = [pb.Replica(replica_id=fleet.replica_id, address=fleet.address)]
    await server.start()
    try:
        yield fleet
    finally:
        await server.stop(None)
