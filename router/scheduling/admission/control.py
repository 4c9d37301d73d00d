"""Accept, queue or shed: the bounded, fair queue in front of placement.

A request that can be placed well is placed at once. One that cannot waits in the router, where order and place can
still change, and not inside an engine. One whose target no worker can meet is refused at once, with the reason and
the time after which it is worth asking again. Nothing waits longer than it can still be useful.
"""

import heapq
import math
from collections.abc import Hashable

from protos.contract.ids import RequestId, WorkerId
from router.domain.placement import FilterName, NoCandidate, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.admission.backpressure import Backpressure
from router.scheduling.admission.fair_queue import FairQueue, Waiting
from router.scheduling.admission.interfaces import Admitted, Decision, OpenClaim
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.admission.token_budget import TokenBudgets
from router.scheduling.admission.wait_estimator import WaitEstimator
from router.scheduling.events import Shed, ShedCode
from router.scheduling.placement.interfaces import Placer

_NEVER = math.inf


class Admission:
    """A bounded, fair priority queue in front of placement. Synchronous and pure: the caller owns waiting.

    Call ``arrive`` for each request, then ``schedule`` whenever something changed (an arrival, a load report, a worker
    joining, a finished request) and at ``next_wakeup``. Every request that arrived gets exactly one decision from some
    ``schedule``, unless it is cancelled first.
    """

    def __init__(
        self,
        *,
        placer: Placer,
        open_claim: OpenClaim,
        limits: AdmissionLimits | None = None,
    ) -> None:
        self._placer = placer
        self._open_claim = open_claim
        self._limits = limits or AdmissionLimits()
        self._queue = FairQueue()
        self._backpressure = Backpressure(self._limits.depth_per_slot)
        self._budgets = TokenBudgets(self._limits)
        self._waits = WaitEstimator()
        self._refused: list[Shed] = []
        self._expiries: list[tuple[float, int, Waiting]] = []
        self._expiry_count = 0
        self._fresh_lanes: set[Hashable] = set()
        self._sizes: dict[str, float] = {}

    @property
    def queued(self) -> int:
        """Requests waiting now."""
        return len(self._queue)

    @property
    def pending(self) -> bool:
        """Somebody waits for a decision."""
        return bool(len(self._queue) or self._refused)

    def waits(self, request_id: RequestId) -> bool:
        """Whether this request waits for a decision."""
        return self._queue.get(request_id) is not None or any(shed.request_id == request_id for shed in self._refused)

    def arrive(
        self,
        request: InferenceRequest,
        now: float,
        *,
        avoid: frozenset[WorkerId] = frozenset(),
        continuation: bool = False,
        again: bool = False,
    ) -> None:
        """Queue a request; at the bounds, refuse it or whoever is least entitled to wait.

        ``continuation``: it is being answered, or some worker had it before, so it goes first and is not shed for load,
        only when its deadline passes. ``again``: it was admitted before and its choice was stale; it goes first
        too and is not charged twice, but is judged as at first.
        """
        limits = self._limits.of(request.tenant)
        tokens = float(max(request.prompt_tokens_estimate, 1)) + self._placer.expected_output(request)
        if not (continuation or again):
            refusal = self._over_limit(request, tokens, now)
            if refusal is not None:
                self._refused.append(refusal)
                return
        first = continuation or again
        waiting = Waiting(
            request=request,
            avoid=avoid,
            continuation=continuation,
            tokens=tokens,
            arrived_at=now,
            lane=_lane_of(request, avoid, continuation=continuation),
            rank=self._queue.rank(request.tenant, tokens, limits.weight, request.priority, continuation=first),
            expires_at=request.deadline_at,
        )
        if not continuation:
            waiting.expires_at = min(waiting.expires_at, now + self._limits.longest_wait_s)
            waiting.late_at = _late_at(request)
        self._queue.add(waiting)
        self._waits.joined(waiting, now)
        self._fresh_lanes.add(waiting.lane)
        self._expire_at(waiting, min(waiting.expires_at, waiting.late_at if self._limits.shed_late else _NEVER))
        if len(self._queue) > self._limits.queue_limit:
            self._make_room(now)

    def settle(self, request: InferenceRequest, used_tokens: float) -> None:
        """A request has ended: its tenant pays for what was used, no longer for what was expected."""
        self._budgets.settle(request.tenant, request.request_id, used_tokens)

    def schedule(self, snapshot: FleetSnapshot, now: float) -> list[Decision]:
        """Decide everything that can be decided now; the claim of each Admitted is open when it returns."""
        decisions: list[Decision] = list(self._refused)
        self._refused.clear()
        self._expire(now, decisions)
        if self._queue and self._waits.due(now):
            self._refuse_hopeless(now, decisions)
        if self._backpressure.see(snapshot, now):
            heads = self._queue.heads()
        else:  # nothing moved since the last time: only lanes with newcomers can have an answer
            heads = [h for lane in self._fresh_lanes if (h := self._queue.head_of(lane)) is not None]
            heads.sort(key=lambda waiting: waiting.rank)
        self._fresh_lanes.clear()
        ranked = [(head.rank, head) for head in heads]
        heapq.heapify(ranked)
        while ranked:
            _, head = heapq.heappop(ranked)
            lane = head.lane
            snapshot, settled = self._decide(head, snapshot, now, decisions)
            if settled:
                following = self._queue.head_of(lane)
                if following is not None:
                    heapq.heappush(ranked, (following.rank, following))
        return decisions

    def cancel(self, request_id: RequestId) -> None:
        """The client left; forget the request. Unknown ids are ignored."""
        waiting = self._queue.get(request_id)
        if waiting is not None:
            self._leave(waiting)
        self._refused = [shed for shed in self._refused if shed.request_id != request_id]

    def next_wakeup(self) -> float | None:
        """When the next waiting request runs out of time or patience, or somebody it may wait for is back."""
        if self._refused:
            return 0.0
        while self._expiries and self._expiries[0][2].gone:
            heapq.heappop(self._expiries)
        times = [at for at, *_ in self._expiries[:1]]
        if self._queue and (back := self._backpressure.next_return) is not None:
            times.append(back)
        return min(times, default=None)

    # -- one request ------------------------------------------------------------------------------------

    def _decide(
        self, waiting: Waiting, snapshot: FleetSnapshot, now: float, decisions: list[Decision]
    ) -> tuple[FleetSnapshot, bool]:
        """Place, refuse, or leave waiting; True when it no longer waits."""
        request = waiting.request
        avoid = waiting.avoid if waiting.continuation else waiting.avoid | self._backpressure.full
        result = self._placer.place(request, snapshot, now, avoid=avoid)
        if isinstance(result, NoCandidate):
            return snapshot, self._not_placed(waiting, result, now, decisions)
        waiting.without_worker_since = waiting.why = None
        if not waiting.continuation:
            late = self._too_late(waiting, result, now)
            if late is not None:
                self._refuse(waiting, late, decisions)
                return snapshot, True
            if self._too_crowded(request, result):
                waiting.why = None
                return snapshot, False
        self._waits.left(waiting, now)
        self._queue.served(waiting)
        snapshot = self._open_claim(request, result, now)
        self._backpressure.claimed(snapshot, result.worker_id)
        size = max(request.prompt_tokens_estimate - result.prediction.cached_tokens, 1) + 64.0
        name = request.model.name
        self._sizes[name] = self._sizes.get(name, size) * 0.98 + 0.02 * size
        decisions.append(Admitted(request_id=request.request_id, placed=result))
        return snapshot, True

    def _not_placed(self, waiting: Waiting, why: NoCandidate, now: float, decisions: list[Decision]) -> bool:
        request = waiting.request
        waiting.why = why
        if not why.known_model:
            reason = f"no worker ever served the model '{request.model.name}'"
            self._refuse(waiting, _shed(request, ShedCode.UNKNOWN_MODEL, reason, why=why), decisions)
            return True
        if why.coming:  # it waits for its worker to load it, as long as it may
            self._wait_for_model(waiting)
            return False
        filters = why.exclusions.filters(apart_from=waiting.avoid)
        if any(one.busy for one in filters):  # somebody will take it once there is room
            waiting.without_worker_since = None
            return False
        served = filters - {FilterName.MODEL}
        # its workers are there, and none may ever take it
        if served and all(one.lasting for one in served) and not why.returning:
            self._refuse(waiting, _shed(request, ShedCode.NO_WORKER, why.reasons(), why=why), decisions)
            return True
        # there are workers, none ever had it or is away, and none can be given it
        if why.blocked and filters and not served and not why.returning:
            self._refuse(waiting, _shed(request, ShedCode.NO_WORKER, why.reasons(), why=why), decisions)
            return True
        if waiting.without_worker_since is None:
            waiting.without_worker_since = now
            self._expire_at(waiting, now + self._limits.patience_s)
        return False

    def _wait_for_model(self, waiting: Waiting) -> None:
        waiting.without_worker_since = None
        if waiting.expires_at < waiting.request.deadline_at:
            waiting.expires_at = waiting.request.deadline_at
            self._expire_at(waiting, waiting.expires_at)

    def _too_late(self, waiting: Waiting, placed: Placed, now: float) -> Shed | None:
        """A refusal when even the chosen worker is predicted to miss the TTFT target."""
        if not self._limits.shed_late or waiting.late_at == _NEVER:
            return None
        request = waiting.request
        target = _ttft_target(request)
        expected = now - request.arrived_at + placed.prediction.ttft_s
        if expected <= target * self._limits.late_factor:
            return None
        seen = placed.prediction
        idle = seen.ttft_s - seen.wait_s
        if idle > target * self._limits.late_factor:
            reason = (
                f"out of reach: {placed.node} would need {_text(idle)} to the first token with nothing else to do, "
                f"the target is {_text(target)}"
            )
            return _shed(request, ShedCode.OUT_OF_REACH, reason)
        reason = (
            f"overloaded: the first token is expected after {_text(expected)} on {placed.node}, "
            f"the target is {_text(target)}"
        )
        return _shed(request, ShedCode.OVERLOADED, reason, retry_after_s=_at_least_one(expected - target))

    def _too_crowded(self, request: InferenceRequest, placed: Placed) -> bool:
        """Even where it goes best it would slow everyone beyond the TPOT target: better it waits while it still may.

        Not where the target is out of reach however empty the worker: there waiting buys nothing.
        """
        if not self._limits.shed_late or request.slo is None or request.slo.tpot_s is None:
            return False
        seen = placed.prediction
        size = max(request.prompt_tokens_estimate - seen.cached_tokens, 1) + 64.0
        relative = float(self._sizes.get(request.model.name, size) / size)
        factor = float(self._limits.hold_factor * relative**self._limits.hold_by_size)
        if seen.expected_slo_violations > self._limits.hold_violations * relative**self._limits.hold_by_size:
            return True
        most = request.slo.tpot_s * min(max(factor, 0.4), 1.1)
        return seen.tpot_s > most and 0.0 < seen.tpot_alone_s <= 0.5 * (most + seen.tpot_s)

    def _refuse_hopeless(self, now: float, decisions: list[Decision]) -> None:
        """Refuse who would still be waiting when it is too late, while there is time to ask elsewhere."""
        # A lane whose head found room and is held back waits for those who run there, not for the queue before it.
        full = {head.lane for head in self._queue.heads() if head.why is not None and not head.why.coming}
        queued = (waiting for waiting in self._queue.in_order() if waiting.lane in full)
        hopeless = self._waits.hopeless(queued, now, shed_late=self._limits.shed_late)
        for waiting, wait in list(hopeless):
            left = min(waiting.expires_at, waiting.late_at) - now
            reason = f"overloaded: about {wait:.1f} s of work is queued before it, {max(left, 0.0):.1f} s are left"
            retry = _at_least_one(wait)
            shed = _shed(waiting.request, ShedCode.OVERLOADED, reason, retry_after_s=retry, why=waiting.why)
            self._refuse(waiting, shed, decisions)

    # -- bounds -----------------------------------------------------------------------------------------

    def _over_limit(self, request: InferenceRequest, tokens: float, now: float) -> Shed | None:
        own = self._limits.of(request.tenant)
        if own.queue_limit is not None and self._queue.tenant_count(request.tenant) >= own.queue_limit:
            wait = self._waits.retry_after_s(request.model.name, now)
            reason = f"tenant {request.tenant} already has {own.queue_limit} requests waiting"
            return _shed(request, ShedCode.RATE_LIMITED, reason, retry_after_s=_at_least_one(wait))
        wait = self._budgets.take(request.tenant, request.request_id, tokens, now)
        if wait > 0.0:
            reason = f"tenant {request.tenant} has used its {own.tokens_per_minute:.0f} tokens per minute"
            return _shed(request, ShedCode.RATE_LIMITED, reason, retry_after_s=_at_least_one(wait))
        return None

    def _make_room(self, now: float) -> None:
        """The queue is over its bound: the least entitled leaves it."""
        victim = self._queue.least_entitled()
        if victim is None:  # only continuations wait, and those are not shed for load
            return
        request = victim.request
        wait = self._waits.retry_after_s(request.model.name, now)
        reason = f"overloaded: {self._limits.queue_limit} requests are waiting"
        self._leave(victim)
        self._refused.append(_shed(request, ShedCode.OVERLOADED, reason, retry_after_s=_at_least_one(wait)))

    def _expire_at(self, waiting: Waiting, at: float) -> None:
        if at < _NEVER:
            self._expiry_count += 1
            heapq.heappush(self._expiries, (at, self._expiry_count, waiting))

    def _expire(self, now: float, decisions: list[Decision]) -> None:
        while self._expiries and (self._expiries[0][2].gone or self._expiries[0][0] <= now):
            _, _, waiting = heapq.heappop(self._expiries)
            if waiting.gone:
                continue
            shed = self._expired(waiting, now)
            if shed is not None:
                self._refuse(waiting, shed, decisions)

    def _expired(self, waiting: Waiting, now: float) -> Shed | None:
        request = waiting.request
        since = waiting.without_worker_since
        if since is not None and now >= since + self._limits.patience_s:
            reasons = waiting.why.reasons() if waiting.why else "no worker is ready"
            reason = f"no worker came back within {self._limits.patience_s:.0f} s: {reasons}"
            return _shed(request, ShedCode.NO_WORKER, reason, retry_after_s=self._limits.patience_s, why=waiting.why)
        waited = now - waiting.arrived_at
        why = waiting.why
        reasons = "" if why is None else f": {why.reasons()}"
        retry = _at_least_one(self._waits.retry_after_s(request.model.name, now))
        if now >= request.deadline_at:
            reason = f"its deadline passed after {waited:.1f} s in the queue{reasons}"
            return _shed(request, ShedCode.DEADLINE, reason, retry_after_s=retry, why=why)
        if now >= waiting.expires_at:
            reason = f"overloaded: no room in {waited:.1f} s{reasons}"
            return _shed(request, ShedCode.OVERLOADED, reason, retry_after_s=retry, why=why)
        if self._limits.shed_late and now >= waiting.late_at:
            reason = f"overloaded: no room in {waited:.1f} s, its TTFT target can no longer be met"
            return _shed(request, ShedCode.OVERLOADED, reason, retry_after_s=retry)
        return None

    def _refuse(self, waiting: Waiting, shed: Shed, decisions: list[Decision]) -> None:
        self._leave(waiting)
        decisions.append(shed)

    def _leave(self, waiting: Waiting) -> None:
        self._waits.gave_up(waiting)
        self._queue.remove(waiting)


def _lane_of(request: InferenceRequest, avoid: frozenset[WorkerId], *, continuation: bool) -> Hashable:
    """Requests that the same workers can take: rules, and size to a power of two."""
    need = request.prompt_tokens_estimate + (request.sampling.max_tokens or 0)
    return (
        request.model,
        request.required_labels,
        request.never_quantized,
        request.sampling.logprobs,
        request.kind,
        continuation,
        need.bit_length(),
        avoid,
        request.slo is None,
    )


def _ttft_target(request: InferenceRequest) -> float:
    slo = request.slo
    if slo is None or slo.ttft_s is None:
        return _NEVER
    return slo.ttft_s + slo.ttft_per_prompt_token_s * request.prompt_tokens_estimate


def _late_at(request: InferenceRequest) -> float:
    return request.arrived_at + _ttft_target(request)


def _text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1.0 else f"{1000.0 * seconds:.0f} ms"


def _at_least_one(seconds: float) -> float:
    """Retry-After counts in whole seconds; under one would mean now."""
    return float(max(1, math.ceil(min(seconds, 3600.0))))


def _shed(
    request: InferenceRequest,
    code: ShedCode,
    reason: str,
    *,
    retry_after_s: float | None = None,
    why: NoCandidate | None = None,
) -> Shed:
    return Shed(request_id=request.request_id, code=code, reason=reason, retry_after_s=retry_after_s, no_candidate=why)
