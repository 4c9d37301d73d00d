"""The planner's eyes and hands in one router replica: members become nodes, steps become commands."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from protos.contract.commands import LoadModel, UnloadModel
from protos.contract.ids import WorkerId
from protos.contract.models.quantization import canonical
from protos.contract.worker import InstanceState, ModelInstance
from router.domain.clock import Clock
from router.domain.snapshot import WantedModel
from router.domain.worker import WorkerState
from router.fleet.desired.values import DesiredState
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.fleet.planning.memory import needs_bytes, usable_bytes
from router.fleet.planning.observed import Copy, Demand, Node, Observed
from router.fleet.planning.steps import Load, Step, Unload
from router.fleet.planning.ways import read_order
from router.fleet.reconciling.resident_book import ResidentBook
from router.fleet.reconciling.travelling_files import TravellingFiles
from router.scheduling.claims import Claims

log = structlog.get_logger()

TAKES_WORK = frozenset({WorkerState.ENROLLED, WorkerState.LOADING, WorkerState.BENCHMARKING, WorkerState.READY})

NO_DEMAND: Mapping[str, tuple[int, float]] = {}


class FleetDesk:
    """``demand``: by model how many requests wait for it, and for how many seconds the first of them does."""

    def __init__(
        self,
        *,
        membership: Membership,
        claims: Claims,
        clock: Clock,
        demand: Callable[[], Mapping[str, tuple[int, float]]] = lambda: NO_DEMAND,
    ) -> None:
        self._membership = membership
        self._claims = claims
        self._clock = clock
        self._demand = demand
        self._book = ResidentBook()
        self._files = TravellingFiles(membership.files)
        self._listeners: list[Callable[[], None]] = []
        membership.on_change(self._changed)

    def on_news(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when something changed that a plan depends on; not for every load report."""
        self._listeners.append(listener)

    def observe(self) -> Observed:
        """The fleet now."""
        now = self._clock.now()
        self._book.forget(now)
        members = [one for one in self._membership.members() if one.lost_at is None]
        known = _facts(members)
        nodes = tuple(self._node(one, known, now) for one in members)
        return Observed(nodes=nodes, demand=self._waiting(), travels=self._files.travels())

    def want(self, desired: DesiredState, blocked: Mapping[str, str]) -> None:
        """Let requests for these models wait for them, but for those that do not come up, by name with the reason."""
        self._membership.want(
            {
                one.name: WantedModel(
                    quantizations=tuple(canonical(quantization) for quantization in one.quantizations),
                    floor=canonical(one.floor) if one.floor else "",
                    blocked=blocked.get(one.name, ""),
                )
                for one in desired.models
            }
        )

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Send what is to be sent to workers that are here. A worker that left meanwhile is planned anew."""
        for step in steps:
            if isinstance(step, (Load, Unload)):
                self._send(step)

    def coming(self, model: str) -> str:
        """What a request for a model waits for, in one line; empty: somebody serves it."""
        found = ""
        for member in self._membership.members():
            for (name, quantization), instance in member.models.items():
                if name != model or member.lost_at is not None:
                    continue
                if instance.state is InstanceState.READY:
                    return ""
                share, _ = member.progress.get((name, quantization), (0.0, ""))
                done = f", {100 * share:.0f}%" if share else ""
                found = f"{model} is {instance.state} on {member.profile.node}{done}"
        return found or f"{model} is to be loaded"

    def progress(self, worker_id: WorkerId, model: str, quantization: str) -> tuple[float, str]:
        """How far a load is (0..1), and in words."""
        member = self._membership.member(worker_id)
        return (0.0, "") if member is None else member.progress.get((model, quantization), (0.0, ""))

    def _send(self, step: Load | Unload) -> None:
        session = self._membership.session_of(step.worker_id)
        if session is None:
            return
        self._book.commanded(step.worker_id, (step.model, step.quantization), self._clock.now())
        about = {"node": step.node, "model": step.model, "quantization": step.quantization, "why": step.why}
        if isinstance(step, Load):
            log.info("model.load_ordered", **about)
            session.send(
                LoadModel(
                    model=step.model,
                    quantization=step.quantization,
                    path=step.file,
                    context_tokens=step.context_tokens,
                    slots=step.slots,
                    content=self._files.content_of(step.file) if step.sources else None,
                    sources=step.sources,
                    urgent=step.urgent,
                    order=step.order,
                )
            )
            return
        log.info("model.unload_ordered", **about)
        session.send(
            UnloadModel(model=step.model, quantization=step.quantization, deadline_s=step.drain_s, idle_s=step.idle_s)
        )

    def _changed(self, worker_id: WorkerId) -> None:
        member = self._membership.member(worker_id)
        if member is not None and self._book.follow(member, self._clock.now()):
            for listener in self._listeners:
                listener()

    def _waiting(self) -> dict[str, Demand]:
        return {model: Demand(waiting=count, oldest_s=age) for model, (count, age) in self._demand().items()}

    # -- members as nodes --------------------------------------------------------------------------------------

    def _node(self, member: Member, known: Mapping[str, list[ModelInstance]], now: float) -> Node:
        profile = member.profile
        return Node(
            worker_id=member.worker_id,
            node=profile.node,
            engine=profile.engine,
            hardware=profile.hardware,
            labels=dict(profile.labels),
            takes_models=profile.takes_models,
            available=member.state in TAKES_WORK and not member.cordoned and member.session_id != 0,
            usable_bytes=usable_bytes(profile.hardware, profile.engine, profile.memory_limit_bytes),
            files=self._files.of(member, known),
            room_bytes=self._files.room_bytes(member.worker_id),
            copies=tuple(self._copy(member, one, known, now) for one in member.models.values()),
            commanded=self._book.under_way(member.worker_id, now),
        )

    def _copy(
        self, member: Member, instance: ModelInstance, known: Mapping[str, list[ModelInstance]], now: float
    ) -> Copy:
        kept = self._book.of(member.worker_id, instance.key)
        running = self._claims.count_of(member.worker_id, *instance.key)
        if running:
            kept.used_at = now
        used_at = max(kept.used_at, kept.since, member.used.get(instance.key, 0.0))
        return Copy(
            instance=instance,
            needs_bytes=_needs(member, instance, known),
            resident_s=now - kept.since if instance.state is InstanceState.READY else 0.0,
            unused_s=now - used_at,
            running=running,
            failures=kept.failures,
            failed_s=now - kept.failed_at,
        )


def _needs(member: Member, instance: ModelInstance, known: Mapping[str, list[ModelInstance]]) -> float:
    """By what it reports once it is loaded; before that, by what was ordered and what its file says."""
    context, slots, _ = read_order(instance.ordered)
    if instance.context_tokens and instance.weights_bytes:
        context, slots = instance.context_tokens, instance.slots
    facts = [instance, *known.get(instance.file, ()), replace(instance, file="")]
    needs = needs_bytes(
        sorted(facts, key=lambda one: not one.weights_bytes),
        instance.quantization,
        context_tokens=context or 1,
        slots=slots or 1,
        hardware=member.profile.hardware,
        engine=member.profile.engine,
    )
    return needs if needs != float("inf") else float(instance.weights_bytes)


def _facts(members: Iterable[Member]) -> dict[str, list[ModelInstance]]:
    found: dict[str, list[ModelInstance]] = {}
    for member in members:
        for told in (*member.files, *member.models.values()):
            if told.file:
                found.setdefault(told.file, []).append(told)
    return found
