"""One router replica in the simulation: the server's own scheduler and fleet, and sessions that only count commands."""

import logging
import math
import random
from dataclasses import replace
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from loadtest.simulate.fleet import NodeSpec
from loadtest.simulate.policies import POLICIES
from loadtest.simulate.traffic import Arrival
from protos.contract.commands import RouterCommand, Unknown
from protos.contract.ids import AttemptKey, RequestId, WorkerId
from protos.contract.worker import Load
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.ids import Tenant
from router.domain.request import InferenceRequest, ModelRef, RequestKind, SloTargets
from router.fleet.lifecycle import Event as LifecycleEvent
from router.fleet.membership import Membership
from router.fleet.session import Sink
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.claims import Claim, Claims
from router.scheduling.events import Arrived, CommandSent, Event, Instruction, LoadReported, Send, Tick, WorkerGone
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.scheduler import Scheduler

BYTES_PER_TOKEN = 4
SLO = SloTargets(ttft_s=2.0, ttft_per_prompt_token_s=0.001, tpot_s=0.1)
"""The figure's targets: TTFT 2 s + 1 ms per prompt token, TPOT 100 ms."""

NO_ADMISSION = AdmissionLimits(depth_per_slot=float("inf"), shed_late=False, queue_limit=1_000_000, longest_wait_s=1e6)

_SILENT = structlog.make_filtering_bound_logger(logging.CRITICAL)
_QUIET: FilteringBoundLogger = structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=_SILENT)

UNSAID = Unknown()
"""The world plays what a command asks for; here only its number counts."""


class SimulatedSession:
    """Numbers commands; the world carries them."""

    def __init__(self, worker_id: WorkerId, session_id: int) -> None:
        self.worker_id = worker_id
        self.session_id = session_id
        self.valid_until = math.inf
        self.last_heard = 0.0
        self.open_attempts = 0
        self._sequence = 0

    def send(self, command: RouterCommand) -> int:  # noqa: ARG002 - what it says is the world's business
        """The command's number."""
        self._sequence += 1
        return self._sequence

    def open(self, key: AttemptKey, sink: Sink) -> None:
        """The world delivers."""

    def close(self, key: AttemptKey) -> None:
        """The world delivers."""

    def abort(self, key: AttemptKey) -> None:
        """No client leaves in a simulation."""

    def end(self, reason: str) -> None:
        """The world ends attempts."""

    def give_back(self, reason: str) -> None:
        """The world ends attempts."""

    def lose_attempts(self, reason: str) -> None:
        """The world ends attempts."""


class RouterSide:
    """Synchronous; the world owns the clock."""

    def __init__(
        self,
        nodes: tuple[NodeSpec, ...],
        policy: str,
        *,
        seed: int,
        replicas: int = 1,
        limits: AdmissionLimits | None = None,
        parameters: dict[str, Any] | None = None,
        records: int = 0,
        clairvoyant: bool = False,
    ) -> None:
        self._clairvoyant = clairvoyant
        self._nodes = nodes
        self._clock = ManualClock()
        self._sessions = 0
        self.claims = Claims()
        self.membership = Membership(FleetConfig(max_workers=max(len(nodes), 1)), self._clock, self.claims, log=_QUIET)
        self.placer: ComposedPlacer = build_placer(
            policy,
            policies=POLICIES,
            rng=random.Random(seed),
            record_capacity=records,
            replicas=replicas,
            parameters=parameters,
        )
        self.scheduler = Scheduler(placer=self.placer, claims=self.claims, fleet=self.membership, limits=limits)
        self.membership.on_gone(self._gone)
        self._noise = random.Random(seed + 1)
        for place in range(len(nodes)):
            self.join(place, 0.0)

    def arrive(self, arrival: Arrival, now: float) -> list[Instruction]:
        """A client's request, with the size as the router estimates it: from bytes, a few percent off."""
        off = 1.0 if self._clairvoyant else self._noise.gauss(1.0, 0.05)
        estimate = max(int(arrival.prompt_tokens * off), 1)
        request = InferenceRequest(
            request_id=RequestId(str(arrival.number)),
            kind=RequestKind.CHAT,
            model=ModelRef(name=arrival.model, floor=arrival.floor),
            tenant=Tenant(arrival.tenant),
            slo=SLO,
            prompt_bytes=estimate * BYTES_PER_TOKEN,
            block_hashes=arrival.block_hashes,
            prompt_tokens_estimate=estimate,
            expected_output_tokens=arrival.output_tokens if self._clairvoyant else 0,
            arrived_at=now,
        )
        return self.handle(Arrived(request), now)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """The scheduler's answer; the command of each ``Send`` in it is on its way."""
        self._clock.set(now)
        instructions = self.scheduler.handle(event, now)
        for one in instructions:
            if isinstance(one, Send):
                session = self.membership.session_of(one.placed.worker_id)
                assert session is not None
                self.scheduler.handle(CommandSent(one.request_id, session.send(UNSAID)), now)
        return instructions

    def _gone(self, worker_id: WorkerId) -> None:
        self.scheduler.handle(WorkerGone(worker_id), self._clock.now())

    def tick(self, now: float) -> list[Instruction]:
        """Something changed; whoever waits may find room."""
        return [] if self.scheduler.idle else self.handle(Tick(), now)

    def report(self, place: int, figures: Load, last_command: int, now: float) -> None:
        """A load report came."""
        self._clock.set(now)
        worker_id = self._nodes[place].worker_id
        member = self.membership.member(worker_id)
        if member is None or not self.membership.connected(worker_id):
            return
        load = replace(figures, observed_at=now, last_command=last_command)
        self.membership.set_load(member, load)
        self.handle(LoadReported(worker_id), now)

    def claim(self, number: int) -> Claim | None:
        """A request's live claim."""
        return self.claims.of(RequestId(str(number)))

    def join(self, place: int, now: float) -> None:
        """A worker dials in, for the first time or again."""
        self._clock.set(now)
        node = self._nodes[place]
        self._sessions += 1
        session = SimulatedSession(node.worker_id, self._sessions)
        member = self.membership.join(session, node.profile, (node.instance,), cordoned=False)
        if member.rtt_s == 0.0:
            self.membership.set_rtt(member, node.rtt_s)

    def leave(self, place: int, now: float, *, announced: bool) -> None:
        """A worker's session breaks, or it drains and says so."""
        self._clock.set(now)
        worker_id = self._nodes[place].worker_id
        if announced:
            self.membership.event(worker_id, LifecycleEvent.DRAIN)
            return
        session = self.membership.session_of(worker_id)
        if session is not None:
            self.membership.leave(session, "the connection broke")

    def back(self, place: int, now: float, *, announced: bool) -> None:
        """It takes work again."""
        if announced:
            self._clock.set(now)
            self.membership.event(self._nodes[place].worker_id, LifecycleEvent.UNDRAIN)
        else:
            self.join(place, now)
