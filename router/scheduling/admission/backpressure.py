"""How full each worker's own queue is, kept up to date from snapshots by the views that changed.

The router lets only so many requests wait inside an engine: what waits there cannot be moved to a worker that
frees up, nor ordered fairly. Within one pump the dispatches just decided are added here, by giving the worker a new
view, so that placement sees them too.
"""

from dataclasses import replace

from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.domain.snapshot import FleetSnapshot, Inflight, WorkerView


class Occupancy:
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
        old = self._views
        self._views = snapshot.workers
        if len(old) != len(snapshot.workers) or any(
            a is not b and a.profile.worker_id != b.profile.worker_id
            for a, b in zip(old, snapshot.workers, strict=True)
        ):
            self._position = {view.worker_id: i for i, view in enumerate(snapshot.workers)}
            self._full = set()
            old = ()
        changed = not old
        for i, view in enumerate(snapshot.workers):
            if not old or view is not old[i]:
                changed = True
                self._judge(view)
        return changed

    def dispatched(self, snapshot: FleetSnapshot, worker_id: WorkerId, uncached: int, output: int) -> FleetSnapshot:
        """The snapshot with one more claim on ``worker_id``: what the caller's next snapshot will show."""
        position = self._position[worker_id]
        view = snapshot.workers[position]
        claims = view.inflight
        claimed = replace(
            view,
            inflight=Inflight(
                requests=claims.requests + 1,
                prompt_tokens=claims.prompt_tokens + uncached,
                output_tokens=claims.output_tokens + output,
            ),
        )
        workers = (*snapshot.workers[:position], claimed, *snapshot.workers[position + 1 :])
        self._views = workers
        self._snapshot = FleetSnapshot(
            taken_at=snapshot.taken_at,
            version=snapshot.version,
            workers=workers,
            expected_models=snapshot.expected_models,
        )
        self._judge(claimed)
        return self._snapshot

    def _judge(self, view: WorkerView) -> None:
        slots = sum(m.slots for m in view.models if m.state is InstanceState.READY)
        load = view.load
        standing = load.running + load.waiting + view.inflight.requests
        full = standing >= max(slots, 1) * (1.0 + self._depth_per_slot)
        if full != (view.worker_id in self._full):
            self._frozen = None
            (self._full.add if full else self._full.discard)(view.worker_id)
