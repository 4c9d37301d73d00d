"""A bounded priority queue that is fair between tenants.

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996) over tokens. A request's start
tag is the later of the queue's virtual time and its tenant's last finish tag. Its finish tag is the start tag plus its
tokens divided by the tenant's weight. The smallest start tag goes first, and is then the virtual time. Priority comes
before tags, and continuations come before all.

Requests stand in lanes: one per set of demands that only certain workers meet. A lane whose head finds no room does
not hold up the others, and asking about one lane asks about all that stands in it.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field

from protos.contract.ids import RequestId, WorkerId
from router.domain.ids import Tenant
from router.domain.placement import NoCandidate
from router.domain.request import InferenceRequest, ModelRef, RequestKind

MAX_TENANTS = 16_384
"""Finish tags kept; at the bound those that lie in the past, which no longer matter, are dropped."""

_FORGOTTEN = InferenceRequest(request_id=RequestId(""), kind=RequestKind.CHAT, model=ModelRef(name=""))
"""In the place of a request that has left: heaps hold its entry for a while, and a prompt may be megabytes."""

Rank = tuple[int, int, float, int]
"""Sorts requests: continuation first, then priority, then start tag, then arrival."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in the queue."""

    request: InferenceRequest
    avoid: frozenset[WorkerId]
    continuation: bool
    tokens: float
    arrived_at: float
    lane: Hashable
    rank: Rank
    expires_at: float
    late_at: float = float("inf")  # when its TTFT target can no longer be met
    without_worker_since: float | None = None
    why: NoCandidate | None = None
    gone: bool = False

    @property
    def request_id(self) -> RequestId:
        """Shorthand."""
        return self.request.request_id


@dataclass(slots=True)
class Lane:
    """Requests with the same demands, in order of rank."""

    heap: list[tuple[Rank, Waiting]] = field(default_factory=list)

    def head(self) -> Waiting | None:
        """The first that still waits."""
        while self.heap and self.heap[0][1].gone:
            heapq.heappop(self.heap)
        return self.heap[0][1] if self.heap else None


class FairQueue:
    """Holds who waits; what happens to them is decided elsewhere."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane] = {}
        self._waiting: dict[RequestId, Waiting] = {}
        self._per_tenant: dict[Tenant, int] = {}
        self._finish_tags: dict[Tenant, float] = {}
        self._virtual_time = 0.0
        self._arrivals = 0
        self._last: list[tuple[tuple[int, float, int], Waiting]] = []  # heap, the least entitled first

    def __len__(self) -> int:
        return len(self._waiting)

    def tenant_count(self, tenant: Tenant) -> int:
        """Requests of a tenant that wait."""
        return self._per_tenant.get(tenant, 0)

    def get(self, request_id: RequestId) -> Waiting | None:
        """Who waits under this id."""
        return self._waiting.get(request_id)

    def rank(self, tenant: Tenant, tokens: float, weight: float, priority: int, *, continuation: bool) -> Rank:
        """The next request's rank; advances the tenant's finish tag."""
        start = max(self._virtual_time, self._finish_tags.get(tenant, 0.0))
        if not continuation:  # its tokens were charged when it first came
            self._finish_tags[tenant] = start + tokens / weight
        if len(self._finish_tags) > MAX_TENANTS:
            self._finish_tags = {t: tag for t, tag in self._finish_tags.items() if tag > self._virtual_time}
        self._arrivals += 1
        return (0 if continuation else 1, -priority, start, self._arrivals)

    def add(self, waiting: Waiting) -> None:
        """Queue a request."""
        self._waiting[waiting.request_id] = waiting
        tenant = waiting.request.tenant
        self._per_tenant[tenant] = self._per_tenant.get(tenant, 0) + 1
        lane = self._lanes.setdefault(waiting.lane, Lane())
        heapq.heappush(lane.heap, (waiting.rank, waiting))
        if not waiting.continuation:
            _, priority, start, number = waiting.rank
            heapq.heappush(self._last, ((-priority, -start, -number), waiting))
            if len(self._last) > 2 * len(self._waiting) + 64:
                self._last = [entry for entry in self._last if not entry[1].gone]
                heapq.heapify(self._last)

    def remove(self, waiting: Waiting) -> None:
        """It no longer waits, for whatever reason. Idempotent."""
        if waiting.gone:
            return
        waiting.gone = True
        del self._waiting[waiting.request_id]
        tenant = waiting.request.tenant
        self._per_tenant[tenant] -= 1
        if not self._per_tenant[tenant]:
            del self._per_tenant[tenant]
        if self._lanes[waiting.lane].head() is None:
            del self._lanes[waiting.lane]
        waiting.request = _FORGOTTEN

    def served(self, waiting: Waiting) -> None:
        """It goes to a worker: virtual time moves on."""
        self._virtual_time = max(self._virtual_time, waiting.rank[2])
        self.remove(waiting)

    def least_entitled(self) -> Waiting | None:
        """Who makes room when the queue is full: lowest priority, then the furthest start tag."""
        while self._last and self._last[0][1].gone:
            heapq.heappop(self._last)
        return self._last[0][1] if self._last else None

    def heads(self) -> list[Waiting]:
        """The head of every lane, best rank first."""
        heads = [head for lane in self._lanes.values() if (head := lane.head()) is not None]
        heads.sort(key=lambda waiting: waiting.rank)
        return heads

    def in_order(self) -> list[Waiting]:
        """All who wait, best rank first."""
        return sorted(self._waiting.values(), key=lambda waiting: waiting.rank)

    def head_of(self, lane: Hashable) -> Waiting | None:
        """Who is next in a lane."""
        found = self._lanes.get(lane)
        return found.head() if found else None
