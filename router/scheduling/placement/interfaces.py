"""What the rest of the router may ask of placement. Implementations import this, never each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from protos.contract.ids import WorkerId
from router.domain.placement import Outcome, Placed, PlacementResult
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.placement.candidates import InstanceKey


@dataclass(slots=True, eq=False)
class Dispatched:
    """A choice that was carried out, until its outcome is known. ``learning`` is the placer's own."""

    request: InferenceRequest
    placed: Placed
    learning: Any


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

    def dispatched(self, request: InferenceRequest, placed: Placed, now: float) -> Dispatched:
        """The choice is carried out: count its prompt as cached there, open its record."""
        ...

    def finished(self, dispatched: Dispatched, outcome: Outcome, now: float) -> None:
        """An attempt ended, once: close its record, learn output length and speed."""
        ...

    def outstanding(self) -> Mapping[InstanceKey, int]:
        """Requests dispatched and not finished, by worker, model and quantization; none that has none."""
        ...

    def expected_output(self, request: InferenceRequest) -> float:
        """Output tokens to expect of a request."""
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
