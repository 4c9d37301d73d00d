"""The world: clients, router replicas and workers on one virtual clock, moved from event to event."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.simulate.fleet import FleetSpec, known
from loadtest.simulate.metrics import Served, window
from loadtest.simulate.router_side import RouterSide
from loadtest.simulate.traffic import BLOCK_TOKENS, Arrival
from protos.contract.worker import Load
from router.domain.placement import Outcome
from router.scheduling.admission.limits import AdmissionLimits
from workers.engines.simulated.core import NEVER, SimulatedCore
from workers.engines.simulated.parameters import EngineParameters
from workers.engines.simulated.sequence import EventKind, Sequence_
from workers.serving.precondition import conflict

REPORT_GAP_S = 0.05
"""Least time between two load reports of a worker (DESIGN.md: at most 20 a second)."""

REPORT_AT_LEAST_S = 0.25
"""A worker that decodes with nothing else happening still reports so often: contexts grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """At ``at`` (seconds) every ``one_in``-th worker becomes ``factor`` times as slow."""

    at: float
    one_in: int = 4
    factor: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One run. ``report_gap_s`` above the default makes what routers know that much staler."""

    fleet: FleetSpec
    policy: str
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    limits: AdmissionLimits | None = None
    replicas: int = 1
    report_gap_s: float = REPORT_GAP_S
    drift: Drift | None = None
    spread: float = 0.2
    records: int = 0
    clairvoyant: bool = False


@dataclass(slots=True)
class _Node:
    core: SimulatedCore
    rtt_s: float
    reported_at: float = -NEVER
    report_at: float = NEVER  # when it reports next, unless something happens before
    wake_at: float = NEVER  # when its batch next changes
    last_command: list[int] = field(default_factory=list)  # per replica


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """A request on its way to a worker."""

    arrival: Arrival
    place: int
    command: int
    replica: int
    expected: int
    quantization: str
    most_pending_tokens: int


Handler = Callable[..., None]


class World:
    """``run`` plays all arrivals to their end and says what became of each."""

    def __init__(self, setup: Setup, arrivals: Sequence[Arrival]) -> None:
        self.setup = setup
        self.now = 0.0
        self._arrivals = arrivals
        self._queue: list[tuple[float, int, Handler, tuple[Any, ...]]] = []
        self._count = 0
        true: tuple[EngineParameters, ...] = setup.fleet.true_parameters(setup.seed, setup.spread)
        self.nodes = [
            _Node(
                SimulatedCore(parameters, random.Random(f"{setup.seed}/noise/{node.node}")),
                node.rtt_s,
                last_command=[0] * setup.replicas,
            )
            for node, parameters in zip(setup.fleet.nodes, true, strict=True)
        ]
        nodes = setup.fleet.nodes
        if setup.clairvoyant:
            nodes = tuple(known(node, parameters) for node, parameters in zip(nodes, true, strict=True))
        self.routers = [
            RouterSide(
                nodes,
                setup.policy,
                seed=1000 * setup.seed + number,
                replicas=setup.replicas,
                limits=setup.limits,
                parameters=setup.parameters,
                records=setup.records,
                clairvoyant=setup.clairvoyant,
            )
            for number in range(setup.replicas)
        ]
        self._router_of = random.Random(setup.seed + 77)
        self._assigned: dict[int, int] = {}  # request -> router replica
        self._wakes = [NEVER] * setup.replicas
        self._running: dict[int, Served] = {}
        self.served: dict[int, Served] = {}
        self.conflicts = 0  # choices that did not hold at their worker
        self._missed = 0
        self._counted = range(0)
        self._most_missed = NEVER

    def run(self, progress: Callable[[int], None] | None = None, *, give_up_at: float = 1.0) -> list[Served]:
        """Until every request has ended; one ``Served`` for each that did, in order of arrival.

        ``give_up_at``: stop as soon as more than this share of the requests that count has missed its targets; what
        has not ended by then is left out.
        """
        for arrival in self._arrivals:
            self._at(arrival.at, self._arrive, arrival)
        if self.setup.drift is not None:
            self._at(self.setup.drift.at, self._drift)
        queue, done = self._queue, 0
        total = len(self._arrivals)
        self._counted = window(total)
        self._most_missed = give_up_at * len(self._counted)
        while queue and len(self.served) < total and self._missed <= self._most_missed:
            self.now, _, handler, arguments = heapq.heappop(queue)
            handler(*arguments)
            if progress is not None and len(self.served) >= done + 200:
                done = len(self.served)
                progress(done)
        return [self.served[one.number] for one in self._arrivals if one.number in self.served]

    @property
    def busy_s(self) -> dict[str, float]:
        """Seconds each worker worked."""
        return {spec.node: node.core.busy_s for spec, node in zip(self.setup.fleet.nodes, self.nodes, strict=True)}

    def _at(self, at: float, handler: Handler, *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, handler, arguments))

    # ------------------------------------------------------------ routers

    def _arrive(self, arrival: Arrival) -> None:
        replica = self._router_of.randrange(len(self.routers)) if len(self.routers) > 1 else 0
        self._assigned[arrival.number] = replica
        self.routers[replica].arrive(arrival, self.now)
        self._pump(replica)

    def _pump(self, replica: int) -> None:
        router = self.routers[replica]
        sent, shed = router.pump(self.now)
        for number, place, command, placed in sent:
            sending = _Sending(
                arrival=self._arrivals[number],
                place=place,
                command=command,
                replica=replica,
                expected=router.expected(number),
                quantization=placed.quantization,
                most_pending_tokens=router.condition(number),
            )
            self._at(self.now + self.nodes[place].rtt_s / 2.0, self._deliver, sending)
        for refusal in shed:
            arrival = self._arrivals[int(refusal.request_id)]
            self.served[arrival.number] = Served(arrival=arrival, shed=refusal.code)
            self._missed += arrival.number in self._counted
        wake = router.admission.next_wakeup()
        if wake is not None and router.admission.queued and wake < self._wakes[replica]:
            self._wakes[replica] = wake
            self._at(max(wake, self.now), self._wake, replica)

    def _wake(self, replica: int) -> None:
        self._wakes[replica] = NEVER
        self._pump(replica)

    def _reported(self, replica: int, place: int, figures: Any, command: int, cache: Any) -> None:
        router = self.routers[replica]
        if cache[0] or cache[1]:
            router.cache_changed(place, *cache)
        router.report(place, figures, command, self.now)
        if router.admission.queued:
            self._pump(replica)

    def _ended(self, replica: int, number: int, outcome: Outcome) -> None:
        router = self.routers[replica]
        router.finished(number, outcome)
        if router.admission.queued:
            self._pump(replica)

    # ------------------------------------------------------------ workers

    def _deliver(self, sending: _Sending) -> None:
        place, arrival = sending.place, sending.arrival
        node = self.nodes[place]
        node.last_command[sending.replica] = sending.command
        changed = self._advance(place)
        if sending.most_pending_tokens and self._conflicts(sending):
            if changed:
                self._changed(place)
            return
        sequence = Sequence_(
            key=arrival.number,
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=arrival.output_tokens,
            expected_tokens=sending.expected,
            block_hashes=arrival.block_hashes,
            block_tokens=BLOCK_TOKENS,
            arrived_at=self.now,
        )
        self._running[arrival.number] = Served(
            arrival=arrival,
            node=self.setup.fleet.nodes[place].node,
            quantization=sending.quantization,
            dispatched_at=self.now - node.rtt_s / 2.0,
        )
        node.core.submit(self.now, sequence)
        self._changed(place)

    def _conflicts(self, sending: _Sending) -> bool:
        """As a worker does: check the condition at the true load, and refuse with it."""
        node = self.nodes[sending.place]
        figures = node.core.load(self.now)
        if not conflict(sending.most_pending_tokens, figures):
            return False
        self.conflicts += 1
        self._at(self.now + node.rtt_s / 2.0, self._place_again, sending, figures)
        return True

    def _place_again(self, sending: _Sending, figures: Load) -> None:
        router = self.routers[sending.replica]
        router.conflicted(sending.arrival.number, sending.place, figures, sending.command, self.now)
        self._pump(sending.replica)

    def _work(self, place: int) -> None:
        node = self.nodes[place]
        if self.now != node.wake_at:
            return  # it was moved
        node.wake_at = NEVER
        if self._advance(place):
            self._changed(place)
        else:
            self._schedule(place)

    def _advance(self, place: int) -> bool:
        """Bring a worker up to now; says whether anything happened."""
        node = self.nodes[place]
        events = node.core.step(self.now)
        for event in events:
            if event.kind is EventKind.FINISHED:
                self._finish(place, event.sequence, event.at)
        return bool(events)

    def _finish(self, place: int, sequence: Sequence_, at: float) -> None:
        node = self.nodes[place]
        number: int = sequence.key  # type: ignore[assignment]
        served = self._running.pop(number)
        half = node.rtt_s / 2.0
        assert sequence.first_at is not None
        served.first_at = sequence.first_at + half
        served.ended_at = at + half
        served.cached_tokens = sequence.cached_tokens
        served.preemptions = sequence.preemptions
        self.served[number] = served
        self._missed += not served.good and number in self._counted
        outcome = Outcome(
            finished_at=served.ended_at,
            ttft_s=served.first_at - served.dispatched_at,
            e2e_s=served.ended_at - served.dispatched_at,
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached_tokens,
            completion_tokens=sequence.output_tokens,
            ending="stop",
        )
        self._at(served.ended_at, self._ended, self._assigned[number], number, outcome)

    def _changed(self, place: int) -> None:
        """Something changed at a worker: wake it when it next does, and report as soon as it may."""
        node = self.nodes[place]
        self._schedule(place)
        due = max(self.now, node.reported_at + self.setup.report_gap_s)
        if due < node.report_at:
            node.report_at = due
            self._at(due, self._report, place)

    def _schedule(self, place: int) -> None:
        node = self.nodes[place]
        wake = node.core.next_event_at()
        if wake != node.wake_at:
            node.wake_at = wake
            if wake < NEVER:
                self._at(wake, self._work, place)

    def _report(self, place: int) -> None:
        node = self.nodes[place]
        if self.now != node.report_at:
            return  # it was moved
        if self._advance(place):
            self._schedule(place)
        node.reported_at = self.now
        node.report_at = NEVER
        figures = node.core.load(self.now)
        cache = node.core.cache.drain_changes()
        for replica in range(len(self.routers)):
            command = node.last_command[replica]
            self._at(self.now + node.rtt_s / 2.0, self._reported, replica, place, figures, command, cache)
        if len(node.core):
            node.report_at = self.now + max(REPORT_AT_LEAST_S, self.setup.report_gap_s)
            self._at(node.report_at, self._report, place)

    def _drift(self) -> None:
        drift = self.setup.drift
        assert drift is not None
        for place in range(0, len(self.nodes), drift.one_in):
            self._advance(place)
            self.nodes[place].core.slow(self.now, drift.factor)
            self._schedule(place)
