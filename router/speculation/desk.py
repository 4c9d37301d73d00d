"""Keeps targets paired with drafts as the fleet changes, and tells both. Synchronous; one router replica does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from protos.contract.commands import AssignDraft, DraftTargets, RouterCommand
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.domain.clock import Clock
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import WorkerState
from router.fleet.session import Session
from router.speculation.notes import DraftNotes
from router.speculation.pairing import Draft, Held, Known, Pair, Paired, Target, TargetKey, pair

log = structlog.get_logger()

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""Between two looks at a fleet that changes all the time."""

PATIENCE_S = 10.0
"""A draft that is paused for so long is held back from this target; others may have it."""

FIRST_HOLD_S = 30.0
LONGEST_HOLD_S = 600.0

MAX_KNOWN = 4096
"""Measured round trips and holds that are kept."""

SessionOf = Callable[[WorkerId], Session | None]
"""A worker's open session; None: it has none."""


@dataclass(slots=True)
class _Trouble:
    """Of one target worker with one draft worker."""

    since: float
    hold_s: float = FIRST_HOLD_S


class DraftDesk:
    """``snapshot``: the fleet now; ``session_of``: the way to a worker."""

    def __init__(self, snapshot: Callable[[], FleetSnapshot], session_of: SessionOf, clock: Clock) -> None:
        self._snapshot = snapshot
        self._session_of = session_of
        self._clock = clock
        self._looked_at = float("-inf")
        self._paired = Paired(pairs={}, without={}, idle={})
        self._rtts: dict[tuple[WorkerId, WorkerId], float] = {}
        self._held: dict[tuple[WorkerId, WorkerId], Held] = {}
        self._trouble: dict[tuple[WorkerId, WorkerId], _Trouble] = {}
        self._told: dict[int, dict[object, RouterCommand]] = {}  # by session: a new one was told nothing

    @property
    def notes(self) -> DraftNotes:
        """Who drafts for whom now, and why others go without; that is told of targets where there are drafts."""
        drafts_for: dict[WorkerId, tuple[WorkerId, ...]] = {}
        for (worker_id, _), one in self._paired.pairs.items():
            drafts_for[one.draft_id] = (*drafts_for.get(one.draft_id, ()), worker_id)
        known = drafts_for or self._paired.idle
        without = {worker_id: reason for (worker_id, _), reason in self._paired.without.items()} if known else {}
        return DraftNotes(drafts_for=drafts_for, reasons={**without, **self._paired.idle})

    def look(self, _worker_id: WorkerId | None = None) -> None:
        """The fleet changed, or time has passed: pair anew, where a look is due."""
        now = self._clock.now()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        fleet = self._snapshot()
        drafts = [draft for view in fleet.workers for draft in drafts_of(view)]
        if not (drafts or self._told or any(view.drafting for view in fleet.workers)):
            return
        for view in fleet.workers:
            self._hear(view, now)
        targets = [target for view in fleet.workers for target in targets_of(view)]
        known = Known(rtts=self._rtts, held=self._held)
        before, self._paired = self._paired, pair(targets, drafts, self._paired.pairs, known, now)
        _log_changes(before.pairs, self._paired.pairs)
        self._tell(fleet)

    # ------------------------------------------------------------ what targets report

    def _hear(self, view: WorkerView, now: float) -> None:
        for report in view.drafting:
            both = view.worker_id, report.draft_worker_id
            stands = self._paired.pairs.get((view.worker_id, (report.model, report.quantization)))
            if stands is None or stands.draft_id != report.draft_worker_id:
                continue
            if report.rtt_s > 0.0:
                _keep(self._rtts, both, report.rtt_s)
            self._judge(both, report, now)

    def _judge(self, both: tuple[WorkerId, WorkerId], report: DraftReport, now: float) -> None:
        trouble = self._trouble.get(both)
        if not report.paused:
            self._trouble.pop(both, None)
            return
        if trouble is None:
            _keep(self._trouble, both, _Trouble(since=now))
        elif now - trouble.since >= PATIENCE_S:
            _keep(self._held, both, Held(until=now + trouble.hold_s, reason=report.paused))
            log.info("draft.held", target=both[0], draft=both[1], reason=report.paused, seconds=trouble.hold_s)
            trouble.since, trouble.hold_s = now + trouble.hold_s, min(2.0 * trouble.hold_s, LONGEST_HOLD_S)

    # ------------------------------------------------------------ what both are told

    def _tell(self, fleet: FleetSnapshot) -> None:
        """Whoever has not heard yet how things stand: a worker that came again knows nothing."""
        asking: dict[WorkerId, set[str]] = {}
        for (worker_id, _), one in self._paired.pairs.items():
            asking.setdefault(one.draft_id, set()).add(worker_id)
        told, self._told = self._told, {}
        for view in fleet.workers:
            session = self._session_of(view.worker_id)
            if session is None:
                continue
            commands = self._commands(view, asking, told.get(session.session_id, {}))
            if not commands:
                continue
            before = told.get(session.session_id, {})
            for what, command in commands.items():
                if before.get(what) != command:
                    session.send(command)
            self._told[session.session_id] = commands

    def _commands(
        self, view: WorkerView, asking: Mapping[WorkerId, set[str]], before: Mapping[object, RouterCommand]
    ) -> dict[object, RouterCommand]:
        """Everything that one worker has to know now."""
        commands: dict[object, RouterCommand] = {}
        if view.profile.draft_address:
            commands["targets"] = DraftTargets(worker_ids=tuple(sorted(asking.get(view.worker_id, ()))))
        reported = {(one.model, one.quantization) for one in view.drafting}
        for target in targets_of(view):
            stands = self._paired.pairs.get((view.worker_id, target.key))
            if stands is not None or target.key in before or target.key in reported:
                commands[target.key] = _assignment(target, stands)
        return commands


def _assignment(target: Target, stands: Pair | None) -> AssignDraft:
    model, quantization = target.key
    if stands is None:
        return AssignDraft(model=model, quantization=quantization, draft_address="", draft_worker_id=WorkerId(""))
    return AssignDraft(
        model=model,
        quantization=quantization,
        draft_address=stands.address,
        draft_worker_id=stands.draft_id,
        draft_model=stands.draft_key[0],
        draft_quantization=stands.draft_key[1],
    )


def targets_of(view: WorkerView) -> list[Target]:
    """Its models that take drafts."""
    if view.state not in (WorkerState.READY, WorkerState.DRAINING):
        return []
    return [
        Target(
            worker_id=view.worker_id,
            key=one.key,
            tokenizer=one.tokenizer_fingerprint,
            weights_bytes=one.weights_bytes,
            slots=one.slots,
            rtt_s=view.rtt_s,
        )
        for one in view.models
        if one.state is InstanceState.READY and one.capabilities.takes_drafts
    ]


def drafts_of(view: WorkerView) -> list[Draft]:
    """Its models that propose to others."""
    if view.state is not WorkerState.READY or view.cordoned or not view.profile.draft_address:
        return []
    return [
        Draft(
            worker_id=view.worker_id,
            node=view.profile.node,
            key=one.key,
            tokenizer=one.tokenizer_fingerprint,
            address=view.profile.draft_address,
            weights_bytes=one.weights_bytes,
            slots=one.slots,
            rtt_s=view.rtt_s,
            token_s=one.speed.step_s(1, 0.0) if one.speed is not None else 0.0,
            running=view.load.running,
        )
        for one in view.drafts
        if one.state is InstanceState.READY
    ]


def _keep(table: dict[tuple[WorkerId, WorkerId], T], key: tuple[WorkerId, WorkerId], value: T) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > MAX_KNOWN:
        del table[next(iter(table))]


def _log_changes(before: Mapping[TargetKey, Pair], now: Mapping[TargetKey, Pair]) -> None:
    for key in before.keys() | now.keys():
        was, becomes = before.get(key), now.get(key)
        if (was and was.draft_id) != (becomes and becomes.draft_id):
            log.info("draft.paired" if becomes else "draft.unpaired", target=key[0], model=key[1][0],
                     draft=(becomes or was).draft_id)  # type: ignore[union-attr]  # fmt: skip
