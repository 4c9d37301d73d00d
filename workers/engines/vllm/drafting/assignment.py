"""A model's draft, told to vLLM's core process and reported back, over a socket in the engine's own folder.

vLLM offers no way to its scheduler from outside, so the two ends meet beside it.
"""

import asyncio
import contextlib
import threading
from dataclasses import replace
from typing import Any

import msgspec
from zmq import constants
from zmq.asyncio import Context as AsyncContext
from zmq.error import Again
from zmq.sugar.context import Context

from protos.contract.events import DraftReport
from protos.contract.worker import ModelInstance
from workers.drafting.client import RemoteDrafter
from workers.drafting.link import DraftLink
from workers.speculation.draft_use import DraftUse

REPORT_EVERY_MS = 1000


class Assigned(msgspec.Struct, frozen=True):
    """The draft to ask from now on; None: none."""

    model: str  # the target
    quantization: str
    link: DraftLink | None


def encode(assigned: Assigned) -> bytes:
    """As it goes to the core; PEM files by their paths."""
    return msgspec.json.encode(assigned, enc_hook=str)


def decode(data: bytes) -> Assigned:
    """As it arrives there. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=Assigned, dec_hook=lambda kind, told: kind(told))


class CoreEnd:
    """In the core process: a thread of its own hears what is assigned and tells how it goes, whether steps run or not.

    ``use``, for the thread that steps the model, is what is made of the draft.
    """

    def __init__(self, endpoint: str, vocab_size: int) -> None:
        self.use: DraftUse | None = None
        self._vocab_size = vocab_size
        self._target: ModelInstance | None = None
        self._drafter: RemoteDrafter | None = None
        self._off = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(endpoint,), name="draft assignment", daemon=True)
        self._thread.start()

    def off(self, reason: str) -> None:
        """No more drafts, whatever is assigned."""
        self._off, self.use = reason, None

    def _run(self, endpoint: str) -> None:
        context = Context()
        socket = context.socket(constants.PAIR)
        socket.setsockopt(constants.LINGER, 0)
        socket.connect(endpoint)
        while not self._closed.is_set():
            if socket.poll(REPORT_EVERY_MS):
                try:
                    self.assign(decode(socket.recv()))
                except Exception as error:  # noqa: BLE001 - the thread's edge: it costs speed, and is said
                    self.off(f"it cannot be asked: {error}")
            report = self.report()
            if report is not None:
                with contextlib.suppress(Again):
                    socket.send(msgspec.json.encode(report), constants.NOBLOCK)
        socket.close()
        context.term()

    def close(self) -> None:
        """End the thread, and the call to the draft."""
        self._closed.set()
        self._thread.join(2 * REPORT_EVERY_MS / 1e3)
        if self._drafter is not None:
            self._drafter.close()

    def assign(self, told: Assigned) -> None:
        """Ask this draft from the next step on."""
        before = self._drafter
        self._target = ModelInstance(model=told.model, quantization=told.quantization)
        if told.link is None or self._off:
            self._drafter = self.use = None
        else:
            self._drafter = drafter = RemoteDrafter(told.link, self._vocab_size)
            self.use = DraftUse(drafter, told.link.draft_length)
        if before is not None:
            before.close()

    def report(self) -> DraftReport | None:
        """How it goes; None: nothing is assigned."""
        drafter, target = self._drafter, self._target
        if drafter is None or target is None:
            return None
        report = drafter.report(target, self.use)
        return replace(report, paused=self._off) if self._off else report


class EngineEnd:
    """In the engine's process."""

    def __init__(self, endpoint: str) -> None:
        self.link: DraftLink | None = None
        self._said: DraftReport | None = None
        self._context = AsyncContext()
        self._socket: Any = self._context.socket(constants.PAIR)
        self._socket.setsockopt(constants.LINGER, 0)
        self._socket.bind(endpoint)
        self._task = asyncio.create_task(self._listen(), name="vllm draft reports")
        self._sending: set[Any] = set()

    def assign(self, target: ModelInstance, link: DraftLink | None) -> None:
        """Tell the core, unless it knows."""
        if link == self.link:
            return
        self.link = link
        self._said = None if link is None else DraftReport(
            model=target.model, quantization=target.quantization,
            draft_worker_id=link.draft_worker_id, paused="the draft is not reached yet",
        )  # fmt: skip
        sent = self._socket.send(encode(Assigned(target.model, target.quantization, link)))
        self._sending.add(sent)
        sent.add_done_callback(self._sending.discard)

    @property
    def report(self) -> DraftReport | None:
        """What the core said last; None: no draft is assigned."""
        return self._said

    async def _listen(self) -> None:
        while True:
            report = msgspec.json.decode(await self._socket.recv(), type=DraftReport)
            link = self.link
            if link is not None and report.draft_worker_id == link.draft_worker_id:
                self._said = report

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()
        self._context.term()
