"""What each worker event does: the reader's half of a session, synchronous and without I/O."""

from collections.abc import Callable

import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.ids import RequestId
from router.domain.clock import Clock
from router.fleet.lifecycle import Event, ImpossibleTransition
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.scheduling import events as scheduling
from router.sessions import codec
from router.sessions.session import WorkerSession
from router.sessions.validation import MAX_BLOCKS, MAX_MODELS, OutOfBounds, check_instance, check_load, one_line

log = structlog.get_logger()

STRAYS_LIMIT = 20_000
"""Deltas for attempts nobody waits for that a session may send: late tokens after an abort are normal, a flood
of tokens for other people's requests is not."""


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
        self._strays = 0
        self._handlers: dict[str, Callable[[pb.WorkerEvent], None]] = {
            "step": lambda event: self._step(event.step),
            "accepted": lambda event: self._accepted(event.accepted),
            "refusal": lambda event: self._refusal(event.refusal),
            "returned": lambda event: self._returned(event.returned),
            "pong": lambda event: self._pong(event.pong),
            "model_progress": lambda event: self._model_progress(event.model_progress),
            "cache": lambda event: self._cache(event.cache),
            "leaving": lambda event: self._leaving(event.leaving),
            "score": lambda _: None,
            "embed": lambda _: None,
        }

    def handle(self, event: pb.WorkerEvent) -> None:
        """Apply one event; raises ProtocolViolation."""
        self._session.heard()
        kind = event.WhichOneof("event")
        handler = self._handlers.get(kind or "")
        try:
            if handler is None:
                raise ProtocolViolation(f"unexpected event '{kind or 'empty'}' after hello")
            handler(event)
        except (ImpossibleTransition, OutOfBounds, ProtocolViolation) as error:
            self._membership.failed(self._member.worker_id, str(error), breach=True)
            raise ProtocolViolation(str(error)) from error

    def _step(self, step: pb.Step) -> None:
        if step.deltas:
            self._session.progressed()
        for message in step.deltas:
            if not self._session.deliver((RequestId(message.request_id), message.attempt), codec.delta_from(message)):
                self._stray()
        if step.HasField("load"):
            self._load(step.load)

    def _load(self, message: pb.Load) -> None:
        check_load(message)
        load = codec.load_from(message, self._clock.now())
        self._session.note_load(load)
        self._membership.set_load(self._member, load)
        self._tell(scheduling.LoadReported(self._member.worker_id))

    def _accepted(self, message: pb.Accepted) -> None:
        self._session.deliver((RequestId(message.request_id), message.attempt), codec.accepted_from(message))

    def _refusal(self, message: pb.Refusal) -> None:
        if message.HasField("load"):
            self._load(message.load)
        self._session.deliver((RequestId(message.request_id), message.attempt), codec.refusal_from(message))

    def _returned(self, message: pb.Returned) -> None:
        self._session.deliver((RequestId(message.request_id), message.attempt), codec.returned_from(message))

    def _pong(self, message: pb.Pong) -> None:
        rtt = self._session.pong(message.sequence)
        if rtt is not None:
            self._membership.set_rtt(self._member, rtt)

    def _model_progress(self, message: pb.ModelProgress) -> None:
        self._session.progressed()
        check_instance(message.model)
        key = (message.model.model, message.model.quantization)
        if len(self._member.models) >= MAX_MODELS and key not in self._member.models:
            raise ProtocolViolation(f"more than {MAX_MODELS} models on one worker")
        self._membership.set_model(self._member, codec.instance_from(message.model))

    def _cache(self, message: pb.CacheEvents) -> None:
        if len(message.stored) + len(message.evicted) > MAX_BLOCKS:
            raise ProtocolViolation(f"a cache event names more than {MAX_BLOCKS} blocks")
        self._tell(
            scheduling.CacheChanged(
                self._member.worker_id,
                message.model,
                message.quantization,
                stored=tuple(message.stored),
                evicted=tuple(message.evicted),
                cleared=message.cleared,
            )
        )

    def _leaving(self, message: pb.Leaving) -> None:
        log.info("worker.leaving", worker=self._member.worker_id, kind=message.kind, reason=one_line(message.reason))
        event = _LEAVING.get(message.kind)
        if event is not None:
            self._membership.event(self._member.worker_id, event)

    def _stray(self) -> None:
        self._strays += 1
        if self._strays > STRAYS_LIMIT:
            raise ProtocolViolation(f"{STRAYS_LIMIT} deltas for requests that are not running there")


_LEAVING = {
    pb.LEAVING_KIND_BYE: Event.BYE,
    pb.LEAVING_KIND_SLEEPING: Event.SLEEPING,
    pb.LEAVING_KIND_DRAINING: Event.DRAIN,
    pb.LEAVING_KIND_AWAKE: Event.AWAKE,
}
