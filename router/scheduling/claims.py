"""Claims on workers' capacity: handed out by the scheduler, closed exactly once. The one book of what was sent where.

Load reports are up to a report interval old. Without claims, requests that arrive together would all see the same
idle worker and herd there. A report carries the last command its worker had seen, so what it reflects is exact: until
then a claim counts as ``Inflight`` beside the load.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protos.contract.ids import RequestId, WorkerId
from router.domain.placement import Ending, Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import Inflight
from router.scheduling.placement.interfaces import Dispatched

_NOTHING = Inflight()


class ClaimClosed(AssertionError):
    """A claim was to be closed a second time: a fault of whoever owns it."""


@dataclass(slots=True, eq=False)
class Claim:
    """One attempt's hold on one worker. ``sequence`` is its command's number, 0 while nothing was sent."""

    request: InferenceRequest
    placed: Placed
    attempt: int
    prefill_tokens: int  # of its prompt, not cached there by the estimate
    output_tokens: int  # expected
    dispatched: Dispatched  # what placement keeps of it
    sequence: int = 0
    sent_at: float = 0.0  # monotonic
    outcome: Outcome | None = None

    @property
    def request_id(self) -> RequestId:
        """Shorthand."""
        return self.request.request_id

    @property
    def worker_id(self) -> WorkerId:
        """Shorthand."""
        return self.placed.worker_id

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it lives."""
        return None if self.outcome is None else self.outcome.ending

    def __repr__(self) -> str:
        state = self.ending or (f"command {self.sequence}" if self.sequence else "not sent")
        return f"<Claim {self.request_id}#{self.attempt} on {self.placed.node}@{self.placed.quantization}: {state}>"


class Claims:
    """Every live claim of one router replica, by request and by worker. Pure state.

    >>> claims = Claims()
    >>> len(claims), claims.inflight(WorkerId("m4-max")).requests
    (0, 0)
    """

    def __init__(self) -> None:
        self._live: dict[RequestId, Claim] = {}
        self._on_worker: dict[WorkerId, dict[RequestId, Claim]] = {}
        self._unreflected: dict[WorkerId, dict[RequestId, Claim]] = {}  # not in the worker's load yet
        self._listeners: list[Callable[[WorkerId, bool], None]] = []

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._live.values())

    def __repr__(self) -> str:
        unsent = sum(not claim.sequence for claim in self)
        return f"<Claims: {len(self)} live, {unsent} not sent, on {len(self._on_worker)} workers>"

    def on_change(self, listener: Callable[[WorkerId, bool], None]) -> None:
        """Call ``listener(worker_id, freed)`` whenever a claim is opened (False) or closed (True)."""
        self._listeners.append(listener)

    def open(self, claim: Claim) -> None:
        """From now on it counts. A request has at most one."""
        assert claim.request_id not in self._live, f"{claim.request_id} has {self._live[claim.request_id]} already"
        self._live[claim.request_id] = claim
        self._on_worker.setdefault(claim.worker_id, {})[claim.request_id] = claim
        self._unreflected.setdefault(claim.worker_id, {})[claim.request_id] = claim
        self._tell(claim.worker_id, freed=False)

    def close(self, claim: Claim, outcome: Outcome) -> None:
        """The attempt is over. Raises ClaimClosed when it was over already."""
        if claim.outcome is not None or self._live.get(claim.request_id) is not claim:
            raise ClaimClosed(f"{claim!r} was closed before; now {outcome.ending}")
        claim.outcome = outcome
        del self._live[claim.request_id]
        _drop(self._on_worker, claim)
        _drop(self._unreflected, claim)
        self._tell(claim.worker_id, freed=True)

    def of(self, request_id: RequestId) -> Claim | None:
        """A request's live claim."""
        return self._live.get(request_id)

    def reflected(self, worker_id: WorkerId, last_command: int) -> None:
        """A load report that had seen all commands up to ``last_command``."""
        waiting = self._unreflected.get(worker_id)
        if waiting:
            for claim in [one for one in waiting.values() if 0 < one.sequence <= last_command]:
                _drop(self._unreflected, claim)

    def session_lost(self, worker_id: WorkerId) -> None:
        """What was sent over that session counts there no more; each claim is still closed by its own end."""
        for claim in [one for one in self._unreflected.get(worker_id, {}).values() if one.sequence]:
            _drop(self._unreflected, claim)

    def count(self, worker_id: WorkerId) -> int:
        """Requests placed on a worker that have not ended."""
        return len(self._on_worker.get(worker_id, ()))

    def count_of(self, worker_id: WorkerId, model: str, quantization: str) -> int:
        """Those of them that are for one model."""
        placed = (claim.placed for claim in self._on_worker.get(worker_id, {}).values())
        return sum(one.model == model and one.quantization == quantization for one in placed)

    def inflight(self, worker_id: WorkerId) -> Inflight:
        """What the worker's load does not show yet."""
        waiting = self._unreflected.get(worker_id)
        if not waiting:
            return _NOTHING
        claims = waiting.values()
        return Inflight(
            requests=len(claims),
            prompt_tokens=sum(claim.prefill_tokens for claim in claims),
            output_tokens=sum(claim.output_tokens for claim in claims),
        )

    def validate(self) -> None:
        """The three indices tell the same. Raises AssertionError."""
        on_workers = [claim for claims in self._on_worker.values() for claim in claims.values()]
        assert sorted(map(id, on_workers)) == sorted(map(id, self)), "claims by worker differ from claims by request"
        for worker_id, claims in self._unreflected.items():
            assert claims.keys() <= self._on_worker.get(worker_id, {}).keys(), f"{worker_id}: a closed claim counts"
        for claim in self:
            assert claim.outcome is None, f"{claim!r} is closed and still listed"

    def _tell(self, worker_id: WorkerId, *, freed: bool) -> None:
        for listener in self._listeners:
            listener(worker_id, freed)


def _drop(index: dict[WorkerId, dict[RequestId, Claim]], claim: Claim) -> None:
    claims = index.get(claim.worker_id)
    if claims is not None and claims.pop(claim.request_id, None) is not None and not claims:
        del index[claim.worker_id]
