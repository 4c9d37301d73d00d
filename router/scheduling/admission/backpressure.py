"""Who should get nothing now, kept up to date from snapshots by the views that changed.

The router lets only so many requests wait inside an engine: what waits there cannot be moved to a worker that
frees up, nor ordered fairly. And a circuit breaker's pause ends by the clock alone: nothing in the fleet changes then.
"""

from itertools import compress
from math import inf
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
        self._pauses: dict[WorkerId, float] = {}  # when the next pause of each worker or of its models ends

    @property
    def next_return(self) -> float | None:
        """When the next pause ends (monotonic seconds); None: nobody pauses."""
        return min(self._pauses.values(), default=None)

    @property
    def full(self) -> frozenset[WorkerId]:
        """Workers whose queue has reached its depth."""
        if self._frozen is None:
            self._frozen = frozenset(self._full)
        return self._frozen

    def see(self, snapshot: FleetSnapshot, now: float) -> bool:
        """Take in a snapshot; True when anything in it differs from what was last seen, or somebody's pause is over."""
        returned = [worker_id for worker_id, until in self._pauses.items() if until <= now] if self._pauses else []
        for worker_id in returned:
            del self._pauses[worker_id]
        if snapshot is self._snapshot:
            self._note_pauses(returned, now)
            return bool(returned)
        self._snapshot = snapshot
        old, new = self._views, snapshot.workers
        self._views = new
        moved = list(compress(range(len(new)), map(is_not, new, old))) if len(new) == len(old) else None
        if moved is None or any(new[i].worker_id != old[i].worker_id for i in moved):
            self._position = {view.worker_id: i for i, view in enumerate(new)}
            self._full, self._frozen = set(), None
            self._pauses.clear()
            moved = list(range(len(new)))
        for i in moved:
            self._judge(new[i])
            self._note_pause(new[i], now)
        self._note_pauses(returned, now)
        return bool(moved or returned) or len(new) != len(old)

    def claimed(self, snapshot: FleetSnapshot, worker_id: WorkerId) -> None:
        """A claim on that worker was just opened; the rest of ``snapshot`` is as it was last seen."""
        self._judge(snapshot.workers[self._position[worker_id]])

    def _note_pauses(self, returned: list[WorkerId], now: float) -> None:
        """Of those that returned: another of their models may still pause."""
        for worker_id in returned:
            position = self._position.get(worker_id)
            if position is not None:
                self._note_pause(self._views[position], now)

    def _note_pause(self, view: WorkerView, now: float) -> None:
        ends = [view.suspended_until, *(one.until for one in view.set_aside.values())]
        until = min((one for one in ends if now < one < inf), default=None)
        if until is None:
            self._pauses.pop(view.worker_id, None)
        else:
            self._pauses[view.worker_id] = until

    def _judge(self, view: WorkerView) -> None:
        slots = sum(m.slots for m in view.models if m.state is InstanceState.READY)
        load = view.load
        in_engine = load.running + load.waiting + view.inflight.requests
        full = in_engine >= max(slots, 1) * (1.0 + self._depth_per_slot)
        if full != (view.worker_id in self._full):
            self._frozen = None
            (self._full.add if full else self._full.discard)(view.worker_id)
