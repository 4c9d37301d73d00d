"""Who is in the fleet, as this router replica knows it: members, their sessions, and the snapshot of all.

Every change is synchronous; listeners hear that something changed and decide what to do. What the scheduler has
claimed of each worker is kept in ``Claims``; a member's view shows it beside the load.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog
from structlog.typing import FilteringBoundLogger

from protos.contract.events import DraftReport, FilesHeld
from protos.contract.ids import WorkerId
from protos.contract.worker import Load, ModelInstance
from router.config import FleetConfig
from router.domain.clock import Clock
from router.domain.snapshot import FleetSnapshot, WantedModel, WorkerView
from router.domain.worker import WorkerProfile, WorkerState
from router.errors import NotFound, Unavailable
from router.fleet.breaker import Breaker
from router.fleet.lifecycle import Command, Event, advance
from router.fleet.member import Member
from router.fleet.model_names import ModelNames
from router.fleet.model_rules import ModelRules
from router.fleet.pool_files import PoolFiles
from router.fleet.session import Session
from router.scheduling.claims import Claims

ANY_MODEL = ModelRules()


class Membership:
    """The fleet of one router replica."""

    def __init__(
        self, config: FleetConfig, clock: Clock, claims: Claims, *, log: FilteringBoundLogger | None = None
    ) -> None:
        self._log = log or structlog.get_logger()
        self._config = config
        self.files = PoolFiles()
        self._clock = clock
        self._claims = claims
        self._members: dict[WorkerId, Member] = {}
        self._sessions: dict[WorkerId, Session] = {}
        self._names = ModelNames(clock)
        self._wanted: Mapping[str, WantedModel] = {}
        self._version = 0
        self._snapshot: FleetSnapshot | None = None
        self._views: dict[WorkerId, WorkerView] = {}  # in the members' order; those that changed are made anew
        self._stale_views: set[WorkerId] = set()
        self._listeners: list[Callable[[WorkerId], None]] = []
        self._on_gone_listeners: list[Callable[[WorkerId], None]] = []
        claims.on_change(self._claims_changed)

    def __repr__(self) -> str:
        states = Counter(member.state.value for member in self._members.values())
        held = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "empty"
        return f"<Membership v{self._version}: {held}; {len(self._sessions)} sessions>"

    # -- reading -------------------------------------------------------------------------------------

    def snapshot(self) -> FleetSnapshot:
        """The fleet now; the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = FleetSnapshot(
                taken_at=self._clock.now(),
                version=self._version,
                workers=self._fresh_views(),
                expected_models=self._names.expected,
                wanted=self._wanted,
            )
        return self._snapshot

    def known_models(self) -> tuple[str, ...]:
        """Every model name any worker reported since this router started, and those still expected."""
        return tuple(dict.fromkeys((*self._names.all(), *self._wanted)))

    def served_models(self) -> tuple[str, ...]:
        """Models of the workers in the table, and those still expected; sorted."""
        return self._names.to_keep(self._served())

    def expect_models(self, names: Iterable[str]) -> None:
        """These were served before this router started: their workers may come back, as long as a lost worker may."""
        self._names.expect(names, until=self._clock.now() + self._config.gone_after_s)
        self._bump()

    def want(self, wanted: Mapping[str, WantedModel]) -> None:
        """What an operator wants to be served, by name, and what of it does not come up."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._bump()

    def connected(self, worker_id: WorkerId) -> bool:
        """Whether a command would reach the worker."""
        return worker_id in self._sessions

    def session_of(self, worker_id: WorkerId) -> Session | None:
        """The open session of a worker; None when it has none."""
        return self._sessions.get(worker_id)

    def member(self, worker_id: WorkerId) -> Member | None:
        """The member record; None for a stranger."""
        return self._members.get(worker_id)

    def members(self) -> tuple[Member, ...]:
        """Everyone in the table, in the order they came."""
        return tuple(self._members.values())

    def find(self, node: str) -> Member:
        """A member by node name or worker id; raises NotFound naming those there are."""
        for member in self._members.values():
            if node in (member.profile.node, member.worker_id):
                return member
        names = ", ".join(sorted(m.profile.node for m in self._members.values())) or "none"
        raise NotFound(f"no node '{node}' in the fleet; there are: {names}")

    def on_change(self, listener: Callable[[WorkerId], None]) -> None:
        """Call ``listener`` with the worker's id after every change."""
        self._listeners.append(listener)

    def on_gone(self, listener: Callable[[WorkerId], None]) -> None:
        """Call ``listener`` when a worker is gone with everything it had cached."""
        self._on_gone_listeners.append(listener)

    # -- coming and going ----------------------------------------------------------------------------

    def join(
        self,
        session: Session,
        profile: WorkerProfile,
        models: tuple[ModelInstance, ...],
        *,
        cordoned: bool,
        rules: ModelRules = ANY_MODEL,
        files: tuple[ModelInstance, ...] = (),
    ) -> Member:
        """A session said hello. A newer session of the same worker replaces the older one. Raises Unavailable when the
        fleet is full.
        """
        worker_id = profile.worker_id
        member = self._members.get(worker_id)
        if member is None:
            self._make_room()
        older = self._sessions.get(worker_id)
        self._sessions[worker_id] = session
        self.files.forget(worker_id)  # it tells anew
        if older is not None:
            older.end("replaced by a newer session of the same worker")
        if member is None or member.profile.incarnation != profile.incarnation or member.state is WorkerState.GONE:
            member = Member(profile=profile, breaker=self._fresh_breaker(member))
            self._members[worker_id] = member
            self._views.setdefault(worker_id, member.view(self._claims))
        else:
            member.profile = profile
        member.session_id = session.session_id
        member.lost_at = None
        member.cordoned = cordoned
        member.rules = rules
        member.files = files
        self._forget_load(member)
        self._advance(member, Event.HELLO)
        member.models, member.announced, member.drafting = {}, {}, {}
        for instance in models:
            self._set_model(member, instance)
        self._follow_models(member)
        self._changed(member)
        self._log.info("worker.joined", worker=worker_id, node=profile.node, engine=profile.engine, state=member.state)
        return member

    def leave(self, session: Session, reason: str) -> bool:
        """A session ended; False when a newer one already speaks for the worker."""
        member = self._members.get(session.worker_id)
        if member is None or member.session_id != session.session_id:
            return False
        self._sessions.pop(session.worker_id, None)
        self.files.forget(session.worker_id)
        member.session_id = 0
        member.lost_at = self._clock.now()
        member.lost_reason = reason
        self._forget_load(member)
        if member.state is not WorkerState.GONE:
            self._advance(member, Event.SESSION_LOST)
        self._changed(member)
        about = {"worker": member.worker_id, "node": member.profile.node, "state": member.state}
        self._log.info("worker.lost", reason=reason, **about)
        return True

    def event(self, worker_id: WorkerId, event: Event, reason: str = "") -> None:
        """A lifecycle event for a known worker; ``reason``: its own, for taking no work."""
        member = self._members.get(worker_id)
        if member is not None:
            member.away_reason = reason
            self._advance(member, event)
            self._changed(member)

    def unseen(self, worker_id: WorkerId) -> int:
        """Requests sent to a worker that its last load report does not count yet."""
        return self._claims.inflight(worker_id).requests

    # -- facts ---------------------------------------------------------------------------------------

    def set_load(self, member: Member, load: Load) -> None:
        """A load report: also settles which dispatches it reflects."""
        member.load = load
        self._claims.reflected(member.worker_id, load.last_command)
        self._changed(member)

    def set_model(self, member: Member, instance: ModelInstance, progress: tuple[float, str] = (0.0, "")) -> None:
        """A model's state, speed or error changed, or it came further: which share is done, and in words."""
        member.progress[instance.model, instance.quantization] = progress
        self._set_model(member, instance)
        self._follow_models(member)
        self._changed(member)

    def set_files(self, member: Member, held: FilesHeld) -> None:
        """Which models' files lie there."""
        self.files.tell_held(member.worker_id, held)
        self._changed(member)

    def set_draft(self, member: Member, report: DraftReport) -> None:
        """How one of its models gets on with its draft; of models that it does not have nothing is kept."""
        key = report.model, report.quantization
        if key in member.models:
            member.drafting[key] = report
            self._changed(member, quietly=True)

    def set_rtt(self, member: Member, rtt_s: float) -> None:
        """Smooth a measured round trip (weight 1/8, as TCP does)."""
        member.rtt_s = rtt_s if member.rtt_s == 0.0 else member.rtt_s * 0.875 + rtt_s * 0.125
        self._changed(member, quietly=True)

    def set_cordoned(self, member: Member, cordoned: bool) -> None:
        """Place nothing new there, or again."""
        member.cordoned = cordoned
        self._changed(member)

    def set_rules(self, member: Member, rules: ModelRules) -> None:
        """An operator decided anew which models it may serve. What runs there goes on."""
        member.rules = rules
        for key in member.announced:
            member.believe(key)
            self._note_name(member, key[0])
        self._follow_models(member)
        self._changed(member)

    def failed(
        self, worker_id: WorkerId, reason: str, *, breach: bool = False, model: tuple[str, str] | None = None
    ) -> None:
        """A request failed there through the worker's fault, or it broke a rule of the contract: open its breaker, or
        that of one ``model`` (name, quantization) with which its engine erred.
        """
        member = self._members.get(worker_id)
        if member is None:
            return
        if model is not None:
            self._model_failed(member, model, reason)
            return
        known, now = member.breaker, self._clock.now()
        member.breaker = known.breached(reason, now) if breach else known.failed(reason, now)
        if member.breaker != known:
            stands = {"failures": member.breaker.failures, "owed": member.breaker.owed}
            self._log.info("breaker.opened", worker=worker_id, reason=reason, **stands)
            self._changed(member)

    def _model_failed(self, member: Member, model: tuple[str, str], reason: str) -> None:
        known = member.model_breakers.get(model) or self._fresh_breaker(None)
        member.model_breakers[model] = known.failed(reason, self._clock.now())
        if member.model_breakers[model] != known:
            failures = member.model_breakers[model].failures
            self._log.info("breaker.opened", worker=member.worker_id, model=model, reason=reason, failures=failures)
            self._changed(member)

    def succeeded(self, worker_id: WorkerId, began_at: float, *, model: tuple[str, str]) -> None:
        """A request for ``model`` sent at ``began_at`` (monotonic) went through: close the breakers, or pay of what is
        owed.
        """
        member = self._members.get(worker_id)
        if member is None:
            return
        member.used[model] = self._clock.now()
        if member.model_breakers.pop(model, None) is not None:
            self._changed(member)
            self._log.info("breaker.closed", worker=worker_id, model=model)
        if not member.breaker.probing:
            return
        member.breaker = member.breaker.succeeded(began_at)
        self._changed(member)
        if not member.breaker.probing:
            self._log.info("breaker.closed", worker=worker_id)

    def forget_gone(self) -> list[WorkerId]:
        """Drop members lost for longer than the table keeps them; returns who went."""
        limit = self._clock.now() - self._config.gone_after_s
        old = [m.worker_id for m in self._members.values() if m.lost_at is not None and m.lost_at < limit]
        for worker_id in old:
            self._drop(worker_id)
        if old:
            self._bump()
        return old

    # -- inside --------------------------------------------------------------------------------------

    def _advance(self, member: Member, event: Event) -> None:
        transition = advance(member.state, event)
        if transition.state is not member.state:
            self._log.info("worker.state", worker=member.worker_id, was=member.state, now=transition.state, cause=event)
        member.state = transition.state
        self._stale_views.add(member.worker_id)
        session = self._sessions.get(member.worker_id)
        if Command.MOVE_STREAMS in transition.commands and session is not None:
            session.give_back(f"the worker said '{event}'")
        if Command.FORGET_CACHE in transition.commands:
            for listener in self._on_gone_listeners:
                listener(member.worker_id)

    def _follow_models(self, member: Member) -> None:
        """Let the worker's state follow its models' while it is on its way to ready (or back from it)."""
        if member.state in (WorkerState.ASLEEP, WorkerState.DRAINING, WorkerState.GONE):
            return
        event = _MODEL_EVENTS.get(member.model_summary())
        if event is not None:
            self._advance(member, event)

    def _set_model(self, member: Member, instance: ModelInstance) -> None:
        self._stale_views.add(member.worker_id)
        if member.take(instance):
            self._note_name(member, instance.model)

    def _note_name(self, member: Member, model: str) -> None:
        if not member.drafts and not member.rules.why_not(model):
            self._names.see(model, self._served())

    def _served(self) -> Iterator[str]:
        return (name for member in self._members.values() if not member.drafts for name, _ in member.models)

    def _fresh_breaker(self, older: Member | None) -> Breaker:
        if older is not None and older.breaker.probing:
            return older.breaker
        return Breaker(first_s=self._config.breaker_first_s, longest_s=self._config.breaker_longest_s)

    def _make_room(self) -> None:
        if len(self._members) < self._config.max_workers:
            return
        lost = [m for m in self._members.values() if m.lost_at is not None]
        if not lost:
            raise Unavailable(f"the fleet has its {self._config.max_workers} workers; raise fleet.max_workers")
        self._drop(min(lost, key=lambda m: m.lost_at or 0.0).worker_id)

    def _drop(self, worker_id: WorkerId) -> None:
        del self._members[worker_id]
        self._views.pop(worker_id, None)

    def _forget_load(self, member: Member) -> None:
        """The session is gone, or new: its load and what was sent over the old one mean nothing now."""
        member.forget_load()
        self._claims.session_lost(member.worker_id)

    def _fresh_views(self) -> tuple[WorkerView, ...]:
        """Every member's view. Only those that changed are made anew: in a large fleet one load report changes one."""
        for worker_id in self._stale_views:
            member = self._members.get(worker_id)
            if member is not None:
                self._views[worker_id] = member.view(self._claims)
        self._stale_views.clear()
        return tuple(self._views.values())

    def _claims_changed(self, worker_id: WorkerId, freed: bool) -> None:
        """A claim was opened, or closed: then somebody who waits may find room."""
        member = self._members.get(worker_id)
        if member is not None:
            self._changed(member, quietly=not freed)

    def _bump(self) -> None:
        self._version += 1
        self._snapshot = None

    def _changed(self, member: Member, *, quietly: bool = False) -> None:
        self._stale_views.add(member.worker_id)
        self._bump()
        if not quietly:
            for listener in self._listeners:
                listener(member.worker_id)


_MODEL_EVENTS = {
    "ready": Event.MODEL_READY,
    "benchmarking": Event.MODEL_BENCHMARKING,
    "loading": Event.MODEL_LOADING,
    "failed": Event.ALL_MODELS_FAILED,
}
