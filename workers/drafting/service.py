"""The Draft service of a draft worker: calls of many targets, each with all its sequences, into one model."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from protos.allsorts.v1 import draft_pb2 as pb
from protos.allsorts.v1 import draft_pb2_grpc as pb_grpc
from protos.contract.codec.drafts import decode_contexts, encode_proposals
from protos.contract.drafts import DraftContext, DraftProposal
from workers.drafting.line import LET_IN_KEY, WORKER_ID_KEY
from workers.drafting.room import DraftRoom, DraftRooms, NoRoom
from workers.drafting.targets import PairedTargets

log = structlog.get_logger(__name__)

MAX_CALLS = 256
MAX_WAITING = 256
"""Messages that may wait for a target that does not read: then its call ends."""

MAX_CONTEXTS = 1024
"""In one message."""


class DraftService(pb_grpc.DraftServicer):
    """``rooms``: the models here now; ``targets``: who may ask."""

    def __init__(self, rooms: Callable[[], DraftRooms], targets: PairedTargets, *, tls: bool) -> None:
        self._rooms = rooms
        self._targets = targets
        self._tls = tls
        self._calls: dict[str, asyncio.Task[Any]] = {}
        self._numbers = 0

    async def Propose(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: ARG002, N802
        """One target's call."""
        worker_id = _caller(context, tls=self._tls)
        if not self._targets.may_ask(worker_id):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no router has paired this worker with the draft")
        if len(self._calls) >= MAX_CALLS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_CALLS} targets ask here already")
        await context.send_initial_metadata(((LET_IN_KEY, "yes"),))
        self._numbers += 1
        call = f"{worker_id}/{self._numbers}"
        task = asyncio.current_task()
        assert task is not None
        self._calls[call] = task
        log.info("draft.call_started", target=worker_id)
        try:
            await self._serve(call, context)
        except NoRoom as why:
            await context.write(encode_proposals([DraftProposal(request_id="", epoch=0, position=0, refusal=str(why))]))
        finally:
            del self._calls[call]
            log.info("draft.call_complete", target=worker_id)

    def recheck(self) -> None:
        """Calls of targets that are paired no more end."""
        for call, task in self._calls.items():
            if not self._targets.may_ask(call.rpartition("/")[0]):
                task.cancel()

    async def _serve(self, call: str, context: Any) -> None:
        """Raises NoRoom."""
        contexts = await _read(context)
        if contexts is None:
            return
        first = contexts[0] if contexts else DraftContext(request_id="", epoch=0, position=0)
        room = self._rooms().room_for(first.model, first.quantization, first.tokenizer_fingerprint)
        waiting: asyncio.Queue[list[DraftProposal]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def answer(proposals: list[DraftProposal]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(waiting.put_nowait, proposals)

        room.enter(call, answer)
        try:
            writer = asyncio.create_task(_write(context, waiting), name=f"proposals to {call}")
            reader = asyncio.create_task(_read_all(context, room, call, contexts, first), name=f"contexts of {call}")
            try:
                done, _ = await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
            finally:
                for one in (writer, reader):
                    one.cancel()
                await asyncio.gather(writer, reader, return_exceptions=True)
        finally:
            room.leave(call)


async def _read_all(
    context: Any, room: DraftRoom, call: str, contexts: list[DraftContext] | None, first: DraftContext
) -> None:
    agreed = first.model, first.quantization, first.tokenizer_fingerprint
    while contexts is not None:
        for one in contexts:
            said = one.model, one.quantization, one.tokenizer_fingerprint
            if any(said) and said != agreed:
                raise NoRoom("one call is for one model and one tokenizer")
        room.tell(call, contexts)
        contexts = await _read(context)


async def _read(context: Any) -> list[DraftContext] | None:
    """The next message; None: the target is gone, or says too much at once."""
    message = await context.read()
    if message is grpc.aio.EOF or len(message.contexts) > MAX_CONTEXTS:
        return None
    assert isinstance(message, pb.DraftContexts)
    return decode_contexts(message)


async def _write(context: Any, waiting: "asyncio.Queue[list[DraftProposal]]") -> None:
    while True:
        proposals = await waiting.get()
        if waiting.qsize() > MAX_WAITING:
            return
        while not waiting.empty():
            proposals = [*proposals, *waiting.get_nowait()]
        await context.write(encode_proposals(proposals))


def _caller(context: Any, *, tls: bool) -> str:
    """Who asks: as its certificate says, in plain text as it says itself."""
    if tls:
        names = context.auth_context().get("x509_common_name")
        return names[0].decode() if names else ""
    said = dict(context.invocation_metadata() or ()).get(WORKER_ID_KEY, "")
    return said if isinstance(said, str) else ""
