"""The scheduler: events in, instructions out. It decides everything that is decided about a request before its output.

It owns admission, placement, claims, the rule for stale choices, whom a request avoids and when it gives up, and what
is left of a stream that must move. The router's pipeline and the simulator run this class and nothing beside it. Pure
and synchronous: time comes in as ``now`` (monotonic seconds), the fleet is asked through ``Fleet``.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Refusal, RefusalCode
from router.domain.placement import Ending, Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.admission.control import Admission
from router.scheduling.admission.interfaces import Admitted
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.claims import Claim, Claims
from router.scheduling.events import (
    Arrived,
    AttemptEnded,
    CacheChanged,
    ClientLeft,
    CommandSent,
    Event,
    Fault,
    Instruction,
    LoadReported,
    Reject,
    Send,
    Shed,
    ShedCode,
    Tick,
    WakeAt,
    WorkerAccepted,
    WorkerGone,
    WorkerRefused,
)
from router.scheduling.placement.candidates import InstanceKey
from router.scheduling.placement.interfaces import Placer
from router.scheduling.refusals import is_clients_fault
from router.scheduling.tracked_request import TrackedRequest

ATTEMPTS_WITHOUT_ELSEWHERE = 2
"""Engines may err this often in a row once nobody is left who has not tried: the client hears the reason soon."""

MAX_STORIES = 1024
"""Stories kept of requests that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """When a request gives up."""

    max_attempts: int = 6  # in a row that bring no token
    max_moves: int = 32  # of one stream, however well it goes on in between


class Fleet(Protocol):
    """The fleet as the scheduler needs it; its snapshot shows the claims of the ``Claims`` they share."""

    def snapshot(self) -> FleetSnapshot:
        """The fleet now; the same object until something changes."""
        ...

    def connected(self, worker_id: WorkerId) -> bool:
        """Whether a command would reach the worker."""
        ...

    def failed(
        self, worker_id: WorkerId, reason: str, *, breach: bool = False, model: tuple[str, str] | None = None
    ) -> None:
        """A request failed there through the worker's fault, or a breach. ``model``: with which its engine erred."""
        ...

    def succeeded(self, worker_id: WorkerId, began_at: float, *, model: tuple[str, str]) -> None:
        """A request for ``model`` sent at ``began_at`` went through."""
        ...


class Scheduler:
    """One per router replica. ``handle`` is the only thing that changes it."""

    def __init__(
        self,
        *,
        placer: Placer,
        claims: Claims,
        fleet: Fleet,
        limits: AdmissionLimits | None = None,
        retries: RetryLimits | None = None,
    ) -> None:
        self._placer = placer
        self._claims = claims
        self._fleet = fleet
        self._retries = retries or RetryLimits()
        self._admission = Admission(placer=placer, open_claim=self._open_claim, limits=limits)
        self._requests: dict[RequestId, TrackedRequest] = {}
        self._backing_off: list[tuple[float, int, RequestId]] = []
        self._backoffs = 0
        self._stories: OrderedDict[RequestId, tuple[tuple[float, str], ...]] = OrderedDict()
        self._handlers: dict[type[Event], Callable[..., list[Instruction]]] = {
            Arrived: self._arrived,
            CommandSent: self._command_sent,
            WorkerAccepted: self._accepted,
            WorkerRefused: self._refused,
            AttemptEnded: self._attempt_ended,
            ClientLeft: self._client_left,
            LoadReported: self._load_reported,
            CacheChanged: self._cache_changed,
            WorkerGone: self._worker_gone,
            Tick: self._tick,
        }

    def __len__(self) -> int:
        """Requests that have not ended."""
        return len(self._requests)

    def __repr__(self) -> str:
        return (
            f"<Scheduler {self._placer.name}: {len(self)} requests, {self.queued} queued, "
            f"{len(self._claims)} claims, {sum(one.backing_off for one in self._requests.values())} backing off>"
        )

    @property
    def queued(self) -> int:
        """Requests that wait in admission's queue."""
        return self._admission.queued

    @property
    def idle(self) -> bool:
        """No request waits for a decision: a change in the fleet is none of its business."""
        return not (self._admission.pending or self._backing_off)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about one event. Raises AssertionError for an event that cannot be: a fault of the caller."""
        return self._handlers[type(event)](event, now)

    # -- from arrival to a worker's answer -------------------------------------------------------------------

    def _arrived(self, event: Arrived, now: float) -> list[Instruction]:
        request_id = event.request.request_id
        assert request_id not in self._requests, f"{request_id} arrived twice"
        tracked = self._requests[request_id] = TrackedRequest(event.request)
        self._note(tracked, now, "arrived")
        return self._queue_or_give_up(tracked, now)

    def _command_sent(self, event: CommandSent, now: float) -> list[Instruction]:
        claim = self._claim_of(event.request_id)
        claim.sequence, claim.sent_at = event.sequence, now
        return []

    def _accepted(self, event: WorkerAccepted, now: float) -> list[Instruction]:
        tracked = self._requests[event.request_id]
        claim = self._claim_of(event.request_id)
        if tracked.taken:
            tracked.moves += 1
        tracked.taken, tracked.busy = True, 0
        tracked.prompt_tokens = tracked.prompt_tokens or event.prompt_tokens
        self._note(tracked, now, f"accepted by {claim.placed.node}")
        return []

    def _refused(self, event: WorkerRefused, now: float) -> list[Instruction]:
        """The client's own fault is its answer; a stale choice is made again; anything else is tried elsewhere."""
        tracked, refusal = self._requests[event.request_id], event.refusal
        placed = self._claim_of(event.request_id).placed
        self._close(tracked, event.outcome, now, refusal.message)
        if event.outcome.ending is Ending.CONFLICT:
            tracked.conflicts += 1
            return self._queue_or_give_up(tracked, now)
        if not tracked.started:
            tried = frozenset(tracked.avoid | {placed.worker_id})
            if is_clients_fault(refusal, tracked.request, self._fleet.snapshot(), tried):
                self._forget(tracked, now, "rejected: the client must change it")
                return [Reject(event.request_id, refusal)]
        if refusal.code is RefusalCode.CONTEXT_LENGTH and refusal.prompt_tokens > 0:
            tracked.prompt_tokens = tracked.prompt_tokens or refusal.prompt_tokens  # no guess any more
        self._failed(tracked, placed, refusal)
        return self._queue_or_give_up(tracked, now)

    def _failed(self, tracked: TrackedRequest, placed: Placed, refusal: Refusal) -> None:
        tracked.failed(placed, refusal.message, busy=refusal.code is RefusalCode.BUSY)
        if refusal.code is RefusalCode.ENGINE_FAILED:
            tracked.engine_failures += 1
            self._fleet.failed(placed.worker_id, refusal.message, model=_model_of(placed))

    # -- how attempts end ------------------------------------------------------------------------------------

    def _attempt_ended(self, event: AttemptEnded, now: float) -> list[Instruction]:
        tracked = self._requests[event.request_id]
        claim = self._claim_of(event.request_id)
        tracked.sent_tokens, tracked.started = event.sent_tokens, tracked.started or event.started
        tracked.output_format = event.output_format or tracked.output_format
        if event.progressed:
            tracked.failures = tracked.engine_failures = 0
        if event.outcome.ending.natural:
            self._fleet.succeeded(claim.worker_id, claim.sent_at, model=_model_of(claim.placed))
        elif event.fault is Fault.MODEL:
            tracked.engine_failures += 1
            self._fleet.failed(claim.worker_id, event.reason, model=_model_of(claim.placed))
        elif event.fault is not Fault.NONE:
            self._fleet.failed(claim.worker_id, event.reason, breach=event.fault is Fault.BREACH)
        self._close(tracked, event.outcome, now, event.reason)
        if event.complete or event.outcome.ending.natural:
            self._forget(tracked, now, "complete")
            return []
        tracked.failed(claim.placed, event.reason)
        return self._queue_or_give_up(tracked, now)

    def _client_left(self, event: ClientLeft, now: float) -> list[Instruction]:
        tracked = self._requests.get(event.request_id)
        if tracked is None:
            return []
        self._admission.cancel(event.request_id)
        if tracked.claim is not None:
            unsent = not tracked.claim.sequence
            outcome = Outcome(finished_at=now, ending=Ending.UNSENT if unsent else Ending.ABORTED)
            self._close(tracked, outcome if unsent else event.outcome or outcome, now)
        self._forget(tracked, now, "the client left")
        return []

    # -- the fleet and the clock -----------------------------------------------------------------------------

    def _load_reported(self, event: LoadReported, now: float) -> list[Instruction]:
        self._placer.observed(self._fleet.snapshot(), event.worker_id, now)
        return []

    def _cache_changed(self, event: CacheChanged, now: float) -> list[Instruction]:  # noqa: ARG002 - handlers are alike
        self._placer.cache_changed(
            event.worker_id,
            event.model,
            event.quantization,
            stored=event.stored,
            evicted=event.evicted,
            cleared=event.cleared,
        )
        return []

    def _worker_gone(self, event: WorkerGone, now: float) -> list[Instruction]:  # noqa: ARG002 - handlers are alike
        self._placer.forget(event.worker_id)
        return []

    def _tick(self, event: Tick, now: float) -> list[Instruction]:  # noqa: ARG002 - handlers are alike
        while self._backing_off and self._backing_off[0][0] <= now:
            tracked = self._requests.get(heapq.heappop(self._backing_off)[2])
            if tracked is not None and tracked.backing_off:
                tracked.backing_off = False
                self._queue(tracked, now)
        return self._schedule(now) if self._admission.pending else self._wake_instruction()

    # -- deciding ----------------------------------------------------------------------------------------------

    def _queue_or_give_up(self, tracked: TrackedRequest, now: float) -> list[Instruction]:
        """Queue a request, at once or after its back-off, or give it up."""
        why = self._why_to_give_up(tracked)
        if why:
            self._forget(tracked, now, why)
            return [Shed(request_id=tracked.request.request_id, code=ShedCode.GAVE_UP, reason=why)]
        delay = tracked.backoff_s()
        if delay > 0.0:
            tracked.backing_off = True
            self._backoffs += 1
            heapq.heappush(self._backing_off, (now + delay, self._backoffs, tracked.request.request_id))
            return self._wake_instruction()
        self._queue(tracked, now)
        return self._schedule(now)

    def _why_to_give_up(self, tracked: TrackedRequest) -> str:
        alone = tracked.engine_failures >= ATTEMPTS_WITHOUT_ELSEWHERE and not self._avoidable(tracked)
        if alone or tracked.failures >= self._retries.max_attempts:
            return f"gave up after {tracked.failures} attempts; the last one: {tracked.last_failure}"
        if tracked.moves >= self._retries.max_moves:
            return f"gave up after {self._retries.max_moves} moves; the last one: {tracked.last_failure}"
        return ""

    def _queue(self, tracked: TrackedRequest, now: float) -> None:
        self._admission.arrive(
            tracked.remaining(),
            now,
            avoid=self._avoidable(tracked),
            continuation=tracked.tried,
            again=tracked.conflicts > 0,
        )

    def _schedule(self, now: float) -> list[Instruction]:
        """Everything that can be decided now: again after each round that changed the fleet."""
        instructions: list[Instruction] = []
        while True:
            decisions = self._admission.schedule(self._fleet.snapshot(), now)
            for decision in decisions:
                if isinstance(decision, Admitted):
                    instructions.append(self._send_instruction(decision.request_id))
                else:
                    self._forget(self._requests[decision.request_id], now, f"shed: {decision.reason}")
                    instructions.append(decision)
            if not self._admission.pending or not any(isinstance(decision, Admitted) for decision in decisions):
                return instructions + self._wake_instruction()

    def _send_instruction(self, request_id: RequestId) -> Send:
        tracked = self._requests[request_id]
        claim = self._claim_of(request_id)
        tried_before = tracked.started or claim.attempt - 1 > tracked.conflicts  # ``tried``, without this attempt
        most = tracked.precondition(claim.placed, tried=tried_before)
        return Send(claim.request, claim.placed, claim.attempt, most)

    def _open_claim(self, request: InferenceRequest, placed: Placed, now: float) -> FleetSnapshot:
        tracked = self._requests[request.request_id]
        dispatched = self._placer.dispatched(request, placed, now)
        placed = dispatched.placed = replace(placed, decision=None)  # it holds a table of the whole pool
        tracked.attempts += 1
        tracked.claim = Claim(
            request=request,
            placed=placed,
            attempt=tracked.attempts,
            prefill_tokens=max(0, request.prompt_tokens_estimate - placed.prediction.cached_tokens),
            output_tokens=int(self._placer.expected_output(request)),
            dispatched=dispatched,
        )
        self._claims.open(tracked.claim)
        self._note(tracked, now, f"placed on {placed.node}@{placed.quantization}, attempt {tracked.attempts}")
        return self._fleet.snapshot()

    def _close(self, tracked: TrackedRequest, outcome: Outcome, now: float, reason: str = "") -> None:
        """The one place where a claim ends: every book hears of it."""
        claim, tracked.claim = tracked.claim, None
        assert claim is not None, f"{tracked.request.request_id} has no claim to close"
        self._claims.close(claim, outcome)
        self._placer.finished(claim.dispatched, outcome, now)
        tracked.computed(outcome)
        self._note(tracked, now, f"{outcome.ending} on {claim.placed.node}{f': {reason}' if reason else ''}")

    def _forget(self, tracked: TrackedRequest, now: float, why: str) -> None:
        """The request is over."""
        self._note(tracked, now, why)
        self._admission.settle(tracked.request, tracked.used_tokens)
        request_id = tracked.request.request_id
        del self._requests[request_id]
        self._stories[request_id] = tuple(tracked.story)
        self._stories.move_to_end(request_id)
        if len(self._stories) > MAX_STORIES:
            self._stories.popitem(last=False)

    def _avoidable(self, tracked: TrackedRequest) -> frozenset[WorkerId]:
        """Workers that failed this request, unless that leaves nobody who serves its model."""
        if not tracked.avoid:
            return frozenset()
        others = any(
            instance.model == tracked.request.model.name
            for worker in self._fleet.snapshot().workers
            if worker.worker_id not in tracked.avoid and self._fleet.connected(worker.worker_id)
            for instance in worker.models
        )
        return frozenset(tracked.avoid) if others else frozenset()

    def _claim_of(self, request_id: RequestId) -> Claim:
        claim = self._requests[request_id].claim
        assert claim is not None, f"{request_id} has no claim"
        return claim

    def _wake_instruction(self) -> list[Instruction]:
        """When to look again if nothing else happens."""
        times = [at for at, *_ in self._backing_off[:1]]
        wakeup = self._admission.next_wakeup()
        if wakeup is not None:
            times.append(wakeup)
        return [WakeAt(min(times))] if times else []

    # -- for people and tests ----------------------------------------------------------------------------------

    def story(self, request_id: RequestId) -> tuple[str, ...]:
        """What happened to a request, one line each with its monotonic second; empty when it is not remembered."""
        tracked = self._requests.get(request_id)
        lines = self._stories.get(request_id, ()) if tracked is None else tuple(tracked.story)
        return tuple(f"{at:.3f} {line}" for at, line in lines)

    def validate(self) -> None:
        """All books agree. Raises AssertionError naming what does not."""
        self._claims.validate()
        held = {request_id for request_id, one in self._requests.items() if one.claim is not None}
        assert held == {claim.request_id for claim in self._claims}, "claims without a request, or the other way round"
        for request_id, one in self._requests.items():
            assert one.claim is None or self._claims.of(request_id) is one.claim, f"{request_id}: another claim is live"
            waits = self._admission.waits(request_id) + one.backing_off + (one.claim is not None)
            assert waits == 1, f"{request_id} is in {waits} places at once"
        assert self._admission.queued <= len(self._requests) - len(held), "somebody waits whom nobody knows"
        placed = [(claim.worker_id, claim.placed) for claim in self._claims]
        outstanding = Counter(InstanceKey(worker_id, one.model, one.quantization) for worker_id, one in placed)
        assert dict(self._placer.outstanding()) == outstanding, "placement counts other requests than there are claims"

    def _note(self, tracked: TrackedRequest, now: float, line: str) -> None:
        tracked.story.append((now, line))


def _model_of(placed: Placed) -> tuple[str, str]:
    return placed.model, placed.quantization
