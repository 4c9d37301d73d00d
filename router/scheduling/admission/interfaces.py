"""What the pipeline (and the simulator) ask of admission."""

from dataclasses import dataclass
from typing import Protocol

from protos.contract.ids import RequestId, WorkerId
from router.domain.placement import NoCandidate, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send this request there, now."""

    request_id: RequestId
    placed: Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """Refuse this request before dispatch.

    ``code``: ``unknown_model``, ``no_worker`` (nothing can ever take it as the pool stands, or nobody came back in
    time), ``out_of_reach`` (its target would be missed by an idle pool), ``overloaded`` (queue full or its target
    cannot be met now), ``deadline`` (its time ran out while it waited), ``rate_limited``.
    """

    request_id: RequestId
    code: str
    reason: str
    retry_after_s: float | None = None
    no_candidate: NoCandidate | None = None


Verdict = Dispatch | Shed


class AdmissionControl(Protocol):
    """A bounded, fair priority queue in front of placement. Synchronous and pure: the caller owns waiting.

    Call ``arrive`` for each request, then ``pump`` whenever something changed (an arrival, a load report, a
    worker joining, a finished request) and at ``next_wakeup``. Every request that arrived gets exactly one
    verdict from some ``pump``, unless it is cancelled first.
    """

    def arrive(
        self,
        request: InferenceRequest,
        now: float,
        *,
        avoid: frozenset[WorkerId] = frozenset(),
        continuation: bool = False,
        again: bool = False,
    ) -> None:
        """Queue a request. ``continuation``: it is already being answered, so it goes first and is not shed
        for load, only when its deadline passes. ``again``: it was let in before and its choice did not hold; it goes
        first too and is not charged twice, but is judged as at first.
        """
        ...

    def pump(self, snapshot: FleetSnapshot, now: float) -> list[Verdict]:
        """Decide everything that can be decided now. Calls ``Placer.place`` and, for each Dispatch,
        ``Placer.dispatched``; the caller must reflect each dispatch in the next snapshot.
        """
        ...

    def cancel(self, request_id: RequestId) -> None:
        """The client left; forget the request. Unknown ids are ignored."""
        ...

    def next_wakeup(self) -> float | None:
        """Monotonic second at which ``pump`` should run even if nothing else happens; None: never."""
        ...

    @property
    def queued(self) -> int:
        """Requests waiting now."""
        ...
