"""One router replica in the simulation: the server's own admission and placement, and what it knows of the workers.

Claims are kept in the same ``Ledger`` as the server's, views are as ``Member`` builds them.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from loadtest.simulate.fleet import NodeSpec
from loadtest.simulate.policies import POLICIES
from loadtest.simulate.traffic import Arrival
from protos.contract.ids import RequestId
from protos.contract.worker import Load
from router.dispatch.retry_policy import condition_of
from router.domain.ids import Tenant
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest, ModelRef, RequestKind, SloTargets
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import WorkerState
from router.fleet.ledger import Ledger
from router.scheduling.admission.control import Admission
from router.scheduling.admission.interfaces import Dispatch, Shed
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.placement.composition import ComposedPlacer
from router.scheduling.placement.placer import build_placer

BYTES_PER_TOKEN = 4
SLO = SloTargets(ttft_s=2.0, ttft_per_prompt_token_s=0.001, tpot_s=0.1)
"""The figure's targets: TTFT 2 s + 1 ms per prompt token, TPOT 100 ms."""

NO_ADMISSION = AdmissionLimits(depth_per_slot=float("inf"), shed_late=False, queue_limit=1_000_000, longest_wait_s=1e6)


@dataclass(slots=True)
class Known:
    """A worker as this replica sees it."""

    node: NodeSpec
    load: Load = field(default_factory=Load)
    ledger: Ledger = field(default_factory=Ledger)
    sequence: int = 0


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
        self.placer: ComposedPlacer = build_placer(
            policy,
            policies=POLICIES,
            rng=random.Random(seed),
            record_capacity=records,
            replicas=replicas,
            parameters=parameters,
        )
        self.admission = Admission(placer=self.placer, limits=limits, expected_output=self.placer.expected_output)
        self._known = [Known(node) for node in nodes]
        self._index = {node.worker_id: place for place, node in enumerate(nodes)}
        self._views = [self._view(known) for known in self._known]
        self._version = 0
        self._snapshot: FleetSnapshot | None = None
        self._requests: dict[str, InferenceRequest] = {}
        self._placed: dict[str, Placed] = {}
        self._conflicts: dict[str, int] = {}  # of requests under way
        self._noise = random.Random(seed + 1)

    def arrive(self, arrival: Arrival, now: float) -> None:
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
        self._requests[request.request_id] = request
        self.admission.arrive(request, now)

    def pump(self, now: float) -> tuple[list[tuple[int, int, int, Placed]], list[Shed]]:
        """Decide: (request number, worker's place, command number, placement), and who is refused."""
        sent: list[tuple[int, int, int, Placed]] = []
        shed: list[Shed] = []
        while True:
            verdicts = self.admission.pump(self.snapshot(now), now)
            for verdict in verdicts:
                if isinstance(verdict, Dispatch):
                    sent.append(self._dispatch(verdict))
                else:
                    shed.append(verdict)
                    del self._requests[verdict.request_id]
                    self._conflicts.pop(verdict.request_id, None)
            if not any(isinstance(verdict, Dispatch) for verdict in verdicts) or not self.admission.queued:
                return sent, shed

    def expected(self, number: int) -> int:
        """Expected output tokens of a request under way."""
        return int(self.placer.expected_output(self._requests[str(number)]))

    def report(self, place: int, figures: Load, last_command: int, now: float) -> None:
        """A load report came."""
        known = self._known[place]
        known.load = Load(
            observed_at=now,
            running=figures.running,
            waiting=figures.waiting,
            prefill_tokens_pending=figures.prefill_tokens_pending,
            context_tokens=figures.context_tokens,
            expected_remaining_tokens=figures.expected_remaining_tokens,
            kv_used=figures.kv_used,
            step_sequence=figures.step_sequence,
            last_command=last_command,
            prefill_progress=figures.prefill_progress,
            tokens_per_s=figures.tokens_per_s,
            last_step_s=figures.last_step_s,
            last_step_batch=figures.last_step_batch,
            last_step_prefill_tokens=figures.last_step_prefill_tokens,
        )
        known.ledger.reflected(last_command)
        self._changed(place)
        self.placer.observed(self.snapshot(now), known.node.worker_id, now)

    def condition(self, number: int) -> int:
        """Prompt tokens that may stand before a request which was just placed; 0: any number."""
        request_id = str(number)
        return condition_of(self._requests[request_id], self._placed[request_id], self._conflicts.get(request_id, 0))

    def conflicted(self, number: int, place: int, figures: Load, last_command: int, now: float) -> None:
        """The worker found the condition broken and said its load: the request is placed again."""
        request_id = str(number)
        request, placed = self._requests[request_id], self._placed.pop(request_id)
        self._conflicts[request_id] = self._conflicts.get(request_id, 0) + 1
        self._known[place].ledger.release(request_id)
        self.report(place, figures, last_command, now)
        self.placer.finished(request, placed, Outcome(ending="conflict"))
        self.admission.arrive(request, now, again=True)

    def cache_changed(self, place: int, stored: tuple[int, ...], evicted: tuple[int, ...]) -> None:
        """A worker published its cache's changes."""
        node = self._known[place].node
        self.placer.cache_changed(
            node.worker_id, node.instance.model, node.instance.quantization, stored=stored, evicted=evicted
        )

    def finished(self, number: int, outcome: Outcome) -> None:
        """A request ended."""
        request_id = str(number)
        request, placed = self._requests.pop(request_id), self._placed.pop(request_id)
        self._conflicts.pop(request_id, None)
        place = self._index[placed.worker_id]
        self._known[place].ledger.release(request_id)
        self._changed(place)
        self.placer.finished(request, placed, outcome)

    def snapshot(self, now: float) -> FleetSnapshot:
        """The fleet as this replica sees it; the same object while nothing changed."""
        if self._snapshot is None:
            self._snapshot = FleetSnapshot(taken_at=now, version=self._version, workers=tuple(self._views))
        return self._snapshot

    def _dispatch(self, verdict: Dispatch) -> tuple[int, int, int, Placed]:
        request, placed = self._requests[verdict.request_id], verdict.placed
        place = self._index[placed.worker_id]
        known = self._known[place]
        known.sequence += 1
        uncached = max(0, request.prompt_tokens_estimate - placed.prediction.cached_tokens)
        known.ledger.reserve(request.request_id, uncached, int(self.placer.expected_output(request)))
        known.ledger.sent(request.request_id, known.sequence)
        self._placed[request.request_id] = placed
        self._changed(place)
        return int(request.request_id), place, known.sequence, placed

    def _changed(self, place: int) -> None:
        self._views[place] = self._view(self._known[place])
        self._snapshot = None
        self._version += 1

    def _view(self, known: Known) -> WorkerView:
        return WorkerView(
            profile=known.node.profile,
            state=WorkerState.READY,
            models=(known.node.instance,),
            load=known.load,
            inflight=known.ledger.totals(),
            rtt_s=known.node.rtt_s,
        )
