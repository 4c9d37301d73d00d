"""How full each worker's own queue is, kept up to date from snapshots by the views that changed.

The router lets only so many requests wait inside an engine: what waits there cannot be moved to a worker that
frees up, nor ordered fairly.
"""

from itertools import compress
from operator import is_not

from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.domain.snapshot import FleetSnapshot, WorkerView


class Backpressure:
    """``full`` names the workers that should get nothing more for now."""

    def __init__(self, depth_per_slot: float) -> None:
        self._depth_per_slot = depth_per_slot
        self._views: tuple[WorkerView, ...] = ()
        self._position: dict[WorkerId, int] = {}
        self._full: set[WorkerId] = set()
        self._frozen: frozenset[WorkerId] | None = frozenset()
        self._snapshot: FleetSnapshot | None = None

    @property
    def full(self) -> frozenset[WorkerId]:
        """Workers whose queue has reached its depth."""
        if self._frozen is None:
            self._frozen = frozenset(self._full)
        return self._frozen

    def see(self, snapshot: FleetSnapshot) -> bool:
        """Take in a snapshot; True when anything in it differs from what was last seen."""
        if snapshot is self._snapshot:
            return False
        self._snapshot = snapshot
        old, new = self._views, snapshot.workers
        self._views = new
        moved = list(compress(range(len(new)), map(is_not, new, old))) if len(new) == len(old) else None
        if moved is None or any(new[i].worker_id != old[i].worker_id for i in moved):
            self._position = {view.worker_id: i for i, view in enumerate(new)}
            self._full, self._frozen = set(), None
            moved = list(range(len(new)))
        for i in moved:
            self._judge(new[i])
        return bool(moved) or len(new) != len(old)

    def claimed(self, snapshot: FleetSnapshot, worker_id: WorkerId) -> None:
        """A claim on that worker was just opened; the rest of ``snapshot`` is as it was last seen."""
        self._judge(snapshot.workers[self._position[worker_id]])

    def _judge(self, view: WorkerView) -> None:
        slots = sum(m.slots for m in view.models if m.state is InstanceState.READY)
        load = view.load
        in_engine = load.running + load.waiting + view.inflight.requests
        full = in_engine >= max(slots, 1) * (1.0 + self._depth_per_slot)
        if full != (view.worker_id in self._full):
            self._frozen = None
            (self._full.add if full else self._full.discard)(view.worker_id)
