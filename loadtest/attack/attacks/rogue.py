"""A worker that means harm: it speaks the protocol well enough to be let in, then says what it likes."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Self

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.joining.versions import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION

MODEL = "rogue"
_OPTIONS = (("grpc.max_send_message_length", 64 * 2**20), ("grpc.max_receive_message_length", 64 * 2**20))

SESSION = "/allsorts.v1.Fleet/Session"

Answer = Callable[[pb.Generate], Iterable[pb.WorkerEvent]]
"""What it says to a request, event by event; may go on for ever."""


def hello(worker_id: str, *, context_tokens: int = 2**24, models: int = 1, padding: int = 0) -> pb.WorkerEvent:
    """A first event; ``padding`` bytes more than it needs."""
    event = pb.WorkerEvent()
    first = event.hello
    first.worker_id, first.incarnation = worker_id, uuid.uuid4().hex
    first.protocol_version, first.oldest_protocol_version = PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION
    first.profile.node, first.profile.engine = worker_id, "llama.cpp"
    first.profile.hardware.kind, first.profile.hardware.name = "nvidia", "NVIDIA H100 80GB HBM3"
    for number in range(models):
        one = first.models.add(
            model=MODEL if number == 0 else f"{MODEL}-{number}", quantization="q8_0", context_tokens=context_tokens,
            slots=64, state=pb.MODEL_STATE_READY, weights_bytes=1, parameters=1, kv_capacity_tokens=2**40,
        )  # fmt: skip
        one.capabilities.chat = True
        one.speed.base_s, one.speed.prefill_tokens_per_s = 0.001, 1e6
        one.lineage = "x" * (padding // models)
    return event


class Rogue:
    """One session. As a context: open while it is entered, or until the router ends it."""

    def __init__(self, grpc_port: int, first: pb.WorkerEvent, answer: Answer | None = None) -> None:
        self._address = f"127.0.0.1:{grpc_port}"
        self._first = first
        self._answer = answer
        self._out: asyncio.Queue[pb.WorkerEvent | bytes] = asyncio.Queue(8)
        self._answering: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        self.why = ""

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        session = self._channel.stream_stream(
            SESSION, request_serializer=_raw, response_deserializer=pb.RouterCommand.FromString
        )
        self._call = session(self._events())
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._answering, self._reader):
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._answering, self._reader, return_exceptions=True)
        await self._channel.close()

    async def say(self, event: pb.WorkerEvent | bytes) -> bool:
        """Send an event, or what is to be taken for one, when there is room; False once the session has ended."""
        putting = asyncio.create_task(self._out.put(event))
        ended = asyncio.create_task(self.ended.wait())
        await asyncio.wait({putting, ended}, return_when=asyncio.FIRST_COMPLETED)
        said = putting.done() and not self.ended.is_set()
        for task in (putting, ended):
            task.cancel()
        return said

    async def _events(self) -> AsyncIterator[pb.WorkerEvent | bytes]:
        yield self._first
        while True:
            yield await self._out.get()

    async def _read(self) -> None:
        try:
            async for command in self._call:
                kind = command.WhichOneof("command")
                if kind == "ping":
                    await self._out.put(pb.WorkerEvent(pong=pb.Pong(sequence=command.ping.sequence)))
                elif kind == "generate" and self._answer is not None:
                    task = asyncio.create_task(self._say_all(self._answer(command.generate)))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
        except grpc.aio.AioRpcError as error:
            self.why = f"{error.code().name}: {error.details()}"
        except asyncio.CancelledError:
            raise
        finally:
            self.ended.set()

    async def _say_all(self, events: Iterable[pb.WorkerEvent]) -> None:
        for event in events:
            if not await self.say(event):
                return


def _raw(event: pb.WorkerEvent | bytes) -> bytes:
    return event if isinstance(event, bytes) else event.SerializeToString()


async def over_and_over(
    seconds: float, make: Callable[[], Rogue], speak: Callable[[Rogue], AsyncGenerator[None]]
) -> dict[str, float]:
    """Sessions one after the other; counts those that the router ended."""
    until = time.monotonic() + seconds
    sessions = ended = 0
    while time.monotonic() < until:
        sessions += 1
        async with make() as rogue:
            with contextlib.suppress(TimeoutError):
                async with (
                    asyncio.timeout(max(0.01, until - time.monotonic())),
                    contextlib.aclosing(speak(rogue)) as words,
                ):
                    async for _ in words:
                        if rogue.ended.is_set():
                            break
            ended += rogue.ended.is_set()
        await asyncio.sleep(0.05)
    return {"sessions": sessions, "ended by the router": ended}
