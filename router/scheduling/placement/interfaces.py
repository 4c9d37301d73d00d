"""What the rest of the router may ask of placement. Implementations import this, never each other."""

from typing import Protocol

from protos.contract.ids import WorkerId
from router.domain.placement import Outcome, Placed, PlacementResult
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot


class Placer(Protocol):
    """Chooses workers and learns from what happens. Synchronous; time comes in as ``now`` (monotonic s)."""

    @property
    def name(self) -> str:
        """The policy's name, as the command line lists it."""
        ...

    def place(
        self,
        request: InferenceRequest,
        snapshot: FleetSnapshot,
        now: float,
        *,
        avoid: frozenset[WorkerId] = frozenset(),
    ) -> PlacementResult:
        """Choose a worker for ``request``. Changes nothing: the choice counts only once ``dispatched``."""
        ...

    def dispatched(self, request: InferenceRequest, placed: Placed, now: float) -> None:
        """The request was sent to ``placed``: count its prompt as cached there, open its record."""
        ...

    def finished(self, request: InferenceRequest, placed: Placed, outcome: Outcome) -> None:
        """An attempt ended: close its record, learn output length and speed."""
        ...

    def observed(self, snapshot: FleetSnapshot, worker_id: WorkerId, now: float) -> None:
        """A worker reported a new load (its view is in ``snapshot``): learn its step times."""
        ...

    def cache_changed(
        self,
        worker_id: WorkerId,
        model: str,
        quantization: str,
        *,
        stored: tuple[int, ...] = (),
        evicted: tuple[int, ...] = (),
        cleared: bool = False,
    ) -> None:
        """A worker said which text blocks it holds or dropped."""
        ...

    def forget(self, worker_id: WorkerId) -> None:
        """The worker is gone, with everything it had cached."""
        ...
