"""What each worker event does: the reader's half of a session, synchronous and without I/O."""

from collections.abc import Callable
from typing import Any

import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.events import decode_event
from protos.contract.events import (
    CacheChange,
    DraftReport,
    FetchProgress,
    FilesHeld,
    Leaving,
    LeavingKind,
    ModelProgress,
    Pong,
    ScoreResult,
    Step,
)
from protos.contract.printable import one_line
from protos.contract.stream import Accepted, Refusal, Returned
from protos.contract.validation import MAX_MODELS, OutOfBounds
from protos.contract.worker import Load
from router.domain.clock import Clock
from router.fleet.lifecycle import Event, ImpossibleTransition
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.scheduling import events as scheduling
from router.sessions.session import WorkerSession

log = structlog.get_logger()

MAX_STRAYS = 20_000
"""Deltas and other events for attempts nobody waits for that a session may send: late tokens after an abort are normal,
a flood of tokens for other people's requests is not."""

MAX_MESSAGE = 200
"""Characters kept of what a worker says of a load."""

Tell = Callable[[scheduling.Event], None]
"""The way to the scheduler."""


class ProtocolViolation(Exception):
    """The worker said something it must not say; its session ends."""


class EventHandler:
    """Applies the events of one session."""

    def __init__(
        self, *, session: WorkerSession, member: Member, membership: Membership, tell: Tell, clock: Clock
    ) -> None:
        self._session = session
        self._member = member
        self._membership = membership
        self._tell = tell
        self._clock = clock
        self._handlers: dict[type, Callable[[Any], None]] = {
            Step: self._step,
            Accepted: self._attempt,
            Refusal: self._refusal,
            Returned: self._attempt,
            Pong: self._pong,
            ModelProgress: self._model_progress,
            CacheChange: self._cache,
            Leaving: self._leaving,
            ScoreResult: lambda _: self._stray(),  # nobody asks for one
            FilesHeld: self._files_held,
            FetchProgress: self._fetch_progress,
            DraftReport: self._draft,
        }

    def handle(self, message: pb.WorkerEvent) -> None:
        """Apply one event; raises ProtocolViolation."""
        self._session.heard()
        try:
            event = decode_event(message, self._clock.now())
            handler = self._handlers.get(type(event))
            if handler is None:
                raise ProtocolViolation(f"unexpected event '{type(event).__name__}' after hello")
            handler(event)
        except (ImpossibleTransition, OutOfBounds, ProtocolViolation) as error:
            self._membership.failed(self._member.worker_id, str(error), breach=True)
            raise ProtocolViolation(str(error)) from error

    def _step(self, step: Step) -> None:
        if step.deltas:
            self._session.progressed()
        for delta in step.deltas:
            if not self._session.deliver((delta.request_id, delta.attempt), delta):
                self._stray()
        if step.load is not None:
            self._load(step.load)

    def _load(self, load: Load) -> None:
        self._session.note_load(load)
        self._membership.set_load(self._member, load)
        self._tell(scheduling.LoadReported(self._member.worker_id))

    def _attempt(self, event: Accepted | Refusal | Returned) -> None:
        if not self._session.deliver((event.request_id, event.attempt), event):
            self._stray()

    def _refusal(self, refusal: Refusal) -> None:
        if refusal.load is not None:
            self._load(refusal.load)
        self._attempt(refusal)

    def _pong(self, pong: Pong) -> None:
        rtt = self._session.pong(pong.sequence)
        if rtt is not None:
            self._membership.set_rtt(self._member, rtt)

    def _model_progress(self, progress: ModelProgress) -> None:
        self._session.progressed()
        if len(self._member.models) >= MAX_MODELS and progress.model.key not in self._member.models:
            raise ProtocolViolation(f"more than {MAX_MODELS} models on one worker")
        self._membership.set_model(
            self._member, progress.model, (progress.fraction, one_line(progress.message)[:MAX_MESSAGE])
        )

    def _draft(self, report: DraftReport) -> None:
        self._membership.set_draft(self._member, report)

    def _cache(self, change: CacheChange) -> None:
        self._tell(
            scheduling.CacheChanged(
                self._member.worker_id,
                change.model,
                change.quantization,
                stored=change.stored,
                evicted=change.evicted,
                cleared=change.cleared,
            )
        )

    def _files_held(self, held: FilesHeld) -> None:
        self._membership.set_files(self._member, held)

    def _fetch_progress(self, progress: FetchProgress) -> None:
        self._membership.files.tell_fetch(self._member.worker_id, progress)

    def _leaving(self, leaving: Leaving) -> None:
        log.info("worker.leaving", worker=self._member.worker_id, kind=leaving.kind, reason=leaving.reason)
        if leaving.kind is not None:
            self._membership.event(self._member.worker_id, _LEAVING[leaving.kind], leaving.reason)

    def _stray(self) -> None:
        """It is dropped here, and counted."""
        self._session.strays += 1
        if self._session.strays > MAX_STRAYS:
            raise ProtocolViolation(f"{MAX_STRAYS} events for requests that are not running there")


_LEAVING = {
    LeavingKind.BYE: Event.BYE,
    LeavingKind.SLEEPING: Event.SLEEPING,
    LeavingKind.DRAINING: Event.DRAIN,
    LeavingKind.AWAKE: Event.AWAKE,
}
