"""A worker that lies: an honest one behind a go-between that rewrites what it says.

It claims to be idle, repeats tokens, leaves some out, and speaks into requests that run elsewhere. What it cannot do
is be caught inventing text at the right position: nobody but the model knows.
"""

import asyncio
from collections import deque
from typing import Any

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetServicer, FleetStub, add_FleetServicer_to_server
from protos.contract.codec.plain_deltas import decode_plain
from protos.contract.codec.stream import encode_delta

LIES_IN = 8
"""One step in so many of those that bring output has a lie in it."""

KNOWN_REQUESTS = 64
CALL_DEADLINE_S = 10.0


class Liar(FleetServicer):
    """The router to the worker, the worker to the router. Honest until ``lying`` is set."""

    def __init__(self, router_port: int) -> None:
        self._router_port = router_port
        self._server: Any = None
        self._channel: Any = None
        self._steps = 0
        self._heard_of: deque[str] = deque(maxlen=KNOWN_REQUESTS)
        self.lying = False
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port, dial the router."""
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._router_port}")
        self._server = grpc.aio.server()
        add_FleetServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Hang up on both."""
        await self._server.stop(grace=0.2)
        await self._channel.close()

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802, ARG002 - gRPC's
        """Passed on."""
        reply: pb.EnrolReply = await FleetStub(self._channel).Enrol(request, timeout=CALL_DEADLINE_S)
        return reply

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: N802, ARG002 - gRPC's
        """Passed on."""
        reply: pb.RenewReply = await FleetStub(self._channel).Renew(request, timeout=CALL_DEADLINE_S)
        return reply

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """Passed on, up with lies."""
        call = FleetStub(self._channel).Session()

        async def up() -> None:
            async for event in request_iterator:
                await call.write(self._rewritten(event) if self.lying else event)
            await call.done_writing()

        sender = asyncio.create_task(up())
        try:
            async for command in call:
                if command.WhichOneof("command") == "generate":
                    self._heard_of.append(command.generate.request_id)
                await context.write(command)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        finally:
            sender.cancel()
            call.cancel()

    def _rewritten(self, event: pb.WorkerEvent) -> pb.WorkerEvent:
        if event.WhichOneof("event") != "step":
            return event
        step = event.step
        if step.HasField("load"):
            for field in ("running", "waiting", "context_tokens", "prefill_tokens_pending", "kv_used"):
                step.load.ClearField(field)
        if step.HasField("plain"):
            for delta in decode_plain(step.plain):
                encode_delta(delta, step.deltas.add)
            step.ClearField("plain")
        if step.deltas:
            self._steps += 1
            if self._steps % LIES_IN == 0:
                self._lie(step)
        return event

    def _lie(self, step: pb.Step) -> None:
        kind = self._steps // LIES_IN % 3
        first = step.deltas[0]
        if kind == 0:  # say it twice
            step.deltas.add().CopyFrom(first)
        elif kind == 1:  # leave it out
            del step.deltas[0]
        else:  # speak into somebody else's request
            for request_id in self._heard_of:
                stray = step.deltas.add()
                stray.CopyFrom(first)
                stray.request_id = request_id
                stray.attempt = first.attempt + 1
