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
from protos.contract.ids import RequestId
from protos.contract.stream import Refusal, RefusalCode
from protos.contract.worker import Load
from router.domain.placement import Ending, Outcome
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.events import (
    AttemptEnded,
    CacheChanged,
    Instruction,
    Send,
    Shed,
    WakeAt,
    WorkerRefused,
)
from workers.engines.simulated.batch.core import NEVER, SimulatedCore
from workers.engines.simulated.batch.sequence import EventKind, Sequence_
from workers.engines.simulated.parameters import EngineParameters
from workers.serving.precondition import violation

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
class Node:
    """One worker: its engine, and when it speaks."""

    core: SimulatedCore
    rtt_s: float
    reported_at: float = -NEVER
    report_at: float = NEVER  # when it reports next, unless something happens before
    wake_at: float = NEVER  # when its batch next changes
    last_command: list[int] = field(default_factory=list)  # per replica
    crashed: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """A request on its way to a worker."""

    arrival: Arrival
    place: int
    command: int
    attempt: int
    replica: int
    expected: int
    quantization: str
    max_queued_prefill_tokens: int


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
            Node(
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
        self._place_of = {node.worker_id: place for place, node in enumerate(nodes)}
        self.done: dict[int, int] = {}  # output tokens with the client, of streams that moved
        self.continued = 0  # streams that went on at another worker
        self._router_of = random.Random(setup.seed + 77)
        self._assigned: dict[int, int] = {}  # request -> router replica
        self._wakes = [NEVER] * setup.replicas
        self.running: dict[int, Served] = {}
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
            self.at(arrival.at, self._arrive, arrival)
        if self.setup.drift is not None:
            self.at(self.setup.drift.at, self._drift)
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

    def at(self, at: float, handler: Handler, *arguments: Any) -> None:
        """Call ``handler`` at a virtual second."""
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, handler, arguments))

    # ------------------------------------------------------------ routers

    def _arrive(self, arrival: Arrival) -> None:
        replica = self._router_of.randrange(len(self.routers)) if len(self.routers) > 1 else 0
        self._assigned[arrival.number] = replica
        self.carry_out(replica, self.routers[replica].arrive(arrival, self.now))

    def carry_out(self, replica: int, instructions: list[Instruction]) -> None:
        """What the scheduler answered."""
        for one in instructions:
            if isinstance(one, Send):
                self._send(replica, one)
            elif isinstance(one, WakeAt):
                self._wake_at(replica, one.at)
            else:
                arrival = self._arrivals[int(one.request_id)]
                code = one.code.value if isinstance(one, Shed) else one.refusal.code.value
                self.served[arrival.number] = Served(arrival=arrival, shed=code)
                self._missed += arrival.number in self._counted

    def _send(self, replica: int, send: Send) -> None:
        number = int(send.request_id)
        claim = self.routers[replica].claim(number)
        assert claim is not None
        place = self._place_of[send.placed.worker_id]
        sending = _Sending(
            arrival=self._arrivals[number],
            place=place,
            command=claim.sequence,
            attempt=send.attempt,
            replica=replica,
            expected=claim.output_tokens,
            quantization=send.placed.quantization,
            max_queued_prefill_tokens=send.max_queued_prefill_tokens,
        )
        self.at(self.now + self.nodes[place].rtt_s / 2.0, self._deliver, sending)

    def _wake_at(self, replica: int, at: float) -> None:
        if at < self._wakes[replica]:
            self._wakes[replica] = at
            self.at(max(at, self.now), self._wake, replica)

    def _wake(self, replica: int) -> None:
        self._wakes[replica] = NEVER
        self.carry_out(replica, self.routers[replica].tick(self.now))

    def _reported(self, replica: int, place: int, figures: Any, command: int, cache: Any) -> None:
        router = self.routers[replica]
        if cache[0] or cache[1]:
            node = self.setup.fleet.nodes[place]
            key = (node.worker_id, node.instance.model, node.instance.quantization)
            router.handle(CacheChanged(*key, stored=cache[0], evicted=cache[1]), self.now)
        router.report(place, figures, command, self.now)
        self.carry_out(replica, router.tick(self.now))

    def _ended(self, replica: int, number: int, outcome: Outcome) -> None:
        router = self.routers[replica]
        self.carry_out(replica, router.handle(AttemptEnded(RequestId(str(number)), outcome), self.now))
        self.carry_out(replica, router.tick(self.now))

    # ------------------------------------------------------------ workers

    def _deliver(self, sending: _Sending) -> None:
        place, arrival = sending.place, sending.arrival
        node = self.nodes[place]
        claim = self.routers[sending.replica].claim(arrival.number)
        if node.crashed or claim is None or claim.attempt != sending.attempt:
            return  # it went down with the connection
        node.last_command[sending.replica] = sending.command
        changed = self.advance(place)
        refused = self._refusal(sending)
        if refused is not None:
            self.at(self.now + node.rtt_s / 2.0, self._refused, sending, *refused)
            if changed:
                self._changed(place)
            return
        done = self.done.get(arrival.number, 0)
        sequence = Sequence_(
            key=arrival.number,
            prompt_tokens=arrival.prompt_tokens + done,
            output_tokens=arrival.output_tokens - done,
            expected_tokens=sending.expected,
            block_hashes=arrival.block_hashes,
            block_tokens=BLOCK_TOKENS,
            arrived_at=self.now,
        )
        served = self.running.setdefault(arrival.number, Served(arrival=arrival))
        served.node, served.quantization = self.setup.fleet.nodes[place].node, sending.quantization
        served.dispatched_at = self.now - node.rtt_s / 2.0
        node.core.submit(self.now, sequence)
        self._changed(place)

    def _refusal(self, sending: _Sending) -> tuple[Refusal, Load] | None:
        """As a worker refuses, with its true load: it drains, the prompt is too long, or the precondition fails."""
        core = self.nodes[sending.place].core
        context = self.setup.fleet.nodes[sending.place].instance.context_tokens
        number, most = sending.arrival.number, sending.max_queued_prefill_tokens
        about: dict[str, Any] = {"request_id": RequestId(str(number)), "attempt": sending.attempt}
        if self.nodes[sending.place].draining:
            return Refusal(**about, code=RefusalCode.DRAINING, message="the worker drains"), core.load(self.now)
        tokens = sending.arrival.prompt_tokens + self.done.get(number, 0)
        if context and tokens >= context:
            about |= {"message": f"{tokens} tokens do not fit {context}", "context_tokens": context}
            return Refusal(**about, code=RefusalCode.CONTEXT_LENGTH), core.load(self.now)
        if not most:
            return None
        figures = core.load(self.now)
        why = violation(most, figures)
        if not why:
            return None
        self.conflicts += 1
        return Refusal(**about, code=RefusalCode.CONFLICT, message=why), figures

    def _refused(self, sending: _Sending, refusal: Refusal, figures: Load) -> None:
        router = self.routers[sending.replica]
        router.report(sending.place, figures, sending.command, self.now)
        ending = Ending.CONFLICT if refusal.code is RefusalCode.CONFLICT else Ending.REFUSED
        event = WorkerRefused(refusal.request_id, refusal, Outcome(finished_at=self.now, ending=ending))
        self.carry_out(sending.replica, router.handle(event, self.now))

    def _work(self, place: int) -> None:
        node = self.nodes[place]
        if self.now != node.wake_at:
            return  # it was moved
        node.wake_at = NEVER
        if self.advance(place):
            self._changed(place)
        else:
            self._schedule(place)

    def advance(self, place: int) -> bool:
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
        served = self.running.pop(number)
        half = node.rtt_s / 2.0
        assert sequence.first_at is not None
        first_at = sequence.first_at + half
        if number not in self.done:
            served.first_at = first_at
        served.ended_at = at + half
        served.cached_tokens = sequence.cached_tokens
        served.preemptions = sequence.preemptions
        self.served[number] = served
        self._missed += not served.good and number in self._counted
        outcome = Outcome(
            finished_at=served.ended_at,
            ttft_s=first_at - served.dispatched_at,
            e2e_s=served.ended_at - served.dispatched_at,
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached_tokens,
            completion_tokens=sequence.output_tokens,
            ending=Ending.STOP,
        )
        self.at(served.ended_at, self._ended, self._assigned[number], number, outcome)

    def _changed(self, place: int) -> None:
        """Something changed at a worker: wake it when it next does, and report as soon as it may."""
        node = self.nodes[place]
        self._schedule(place)
        due = max(self.now, node.reported_at + self.setup.report_gap_s)
        if due < node.report_at:
            node.report_at = due
            self.at(due, self._report, place)

    def _schedule(self, place: int) -> None:
        node = self.nodes[place]
        wake = node.core.next_event_at()
        if wake != node.wake_at:
            node.wake_at = wake
            if wake < NEVER:
                self.at(wake, self._work, place)

    def _report(self, place: int) -> None:
        node = self.nodes[place]
        if self.now != node.report_at:
            return  # it was moved
        if self.advance(place):
            self._schedule(place)
        node.reported_at = self.now
        node.report_at = NEVER
        figures = node.core.load(self.now)
        cache = node.core.cache.drain_changes()
        for replica in range(len(self.routers)):
            command = node.last_command[replica]
            self.at(self.now + node.rtt_s / 2.0, self._reported, replica, place, figures, command, cache)
        if len(node.core):
            node.report_at = self.now + max(REPORT_AT_LEAST_S, self.setup.report_gap_s)
            self.at(node.report_at, self._report, place)

    def _drift(self) -> None:
        drift = self.setup.drift
        assert drift is not None
        for place in range(0, len(self.nodes), drift.one_in):
            self.advance(place)
            self.nodes[place].core.slow(self.now, drift.factor)
            self._schedule(place)
