"""The snapshot as columns, refreshed only where a worker's view changed.

Views are immutable and keep their identity while nothing changes, so a refresh compares identities and rewrites the
few rows that differ. Rows are (worker, instance) pairs in snapshot order.
"""

from itertools import compress
from operator import is_not

import numpy as np

from protos.contract.ids import WorkerId
from protos.contract.worker import ModelInstance
from router.domain.placement import Prediction
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.scheduling.estimators.prefill_share import PrefillShare
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.speed_model import SpeedModel
from router.scheduling.estimators.tpot_lead import LOW_SLACK_S, Progress, SlackTracker
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey
from router.scheduling.placement.columns import (
    COLUMNS,
    LOADED,
    PROGRESS,
    SLACK,
    SLACK_COUNTS,
    SLACK_LEADS,
    SPEED,
    VIEW,
    Column,
)
from router.scheduling.placement.curve_rows import CurveRows
from router.scheduling.placement.filters.eligibility import Eligibility, Eligible, Layout
from router.scheduling.placement.filters.static import Rules
from router.scheduling.placement.quality import Quality

MAX_MODELS = 4096
"""Model names remembered as once served."""

_BLOCK_TOKENS_GUESS = 64.0
_FOREVER = float("inf")


class FleetTable:
    """Owns the columns; the speed model and prefix index are told of instances that come and go."""

    def __init__(self, speeds: SpeedModel, prefixes: PrefixIndex, quality: Quality, *, unseen: float = 1.0) -> None:
        self._speeds = speeds
        self._prefixes = prefixes
        self._quality = quality
        self._snapshot: FleetSnapshot | None = None
        self._layout = Layout()
        self._index_of: dict[WorkerId, int] = {}  # its view's number
        self._keys_of: dict[WorkerId, tuple[InstanceKey, ...]] = {}
        self._row_of: dict[InstanceKey, int] = {}
        self._rows: list[tuple[WorkerView, ModelInstance]] = []
        self._incarnations: dict[InstanceKey, str] = {}
        self._eligibility = Eligibility(quality)
        self._known: dict[str, None] = {}
        self._prefill_shares: dict[InstanceKey, PrefillShare] = {}
        self._trackers: dict[InstanceKey, SlackTracker] = {}
        self._curves = CurveRows(unseen)
        self.data: Floats = np.zeros((COLUMNS, 0))

    def refresh(self, snapshot: FleetSnapshot) -> None:
        """Bring the columns up to the snapshot."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._refresh_views(snapshot)
        self._refresh_speeds()

    def refresh_worker(self, snapshot: FleetSnapshot, worker_id: WorkerId) -> None:
        """Bring one worker's columns up to the snapshot, without looking at the others where that is possible."""
        index = self._index_of.get(worker_id, len(snapshot.workers))
        if index >= len(snapshot.workers) or not self._refresh_view(index, snapshot.workers[index]):
            self.refresh(snapshot)
        self._refresh_speeds()

    def eligible(self, rules: Rules) -> Eligible:
        """Candidates by the static filters."""
        return self._eligibility.of(rules)

    def knows(self, model: str) -> bool:
        """Some worker served the model since this router started."""
        return model in self._known

    def row(self, key: InstanceKey) -> int | None:
        """Where an instance stands, if it does."""
        return self._row_of.get(key)

    def candidates(self, eligible: Eligible) -> Candidates:
        """The figures of those whom the static filters let through, the caller's own to change."""
        data = self.data.take(eligible.rows, axis=1)
        return Candidates(eligible.keys, eligible.nodes, data, self._curves.of(eligible.rows))

    def at(self, row: int) -> tuple[WorkerView, ModelInstance]:
        """Who stands in a row."""
        return self._rows[row]

    def keys_of(self, worker_id: WorkerId) -> tuple[InstanceKey, ...]:
        """All instances of a worker."""
        return self._keys_of.get(worker_id, ())

    def set_outstanding(self, key: InstanceKey, count: int) -> None:
        """How many requests this router has there; baselines go by it."""
        row = self._row_of.get(key)
        if row is not None:
            self.data[Column.OUTSTANDING, row] = count

    def run_started(
        self, key: InstanceKey, request_id: str, now: float, target_s: float, prompt_tokens: int, seen: Prediction
    ) -> None:
        """A request with a TPOT target went to the instance; the columns do not show its prompt yet."""
        row = self._row_of.get(key)
        if row is not None:
            column = self.data[:, row]
            uncached = max(prompt_tokens - seen.cached_tokens, 1)
            before = float(column[Column.PREFILL_PENDING] + column[Column.INFLIGHT_PREFILL])
            self._trackers[key].dispatched(
                request_id,
                now,
                prefill_tokens=before + uncached,
                target_s=target_s,
                ttft_s=seen.ttft_s,
                tpot_s=max(seen.tpot_s, 1e-6),
            )
            lead = (before + uncached) * float(column[Column.PREFILL_TOKEN_S])
            which = 0 if lead < LOW_SLACK_S else 1
            count, mean = SLACK_COUNTS.columns[which], SLACK_LEADS.columns[which]
            column[count] += 1.0
            column[mean] += (lead - column[mean]) / column[count]

    def run_ended(self, key: InstanceKey, request_id: str) -> None:
        """It ended there; the columns show it with the next load."""
        tracker = self._trackers.get(key)
        if tracker is not None:
            tracker.finished(request_id)

    def run_withdrawn(self, key: InstanceKey, request_id: str) -> None:
        """It was refused there: it never ran, and the columns forget it at once."""
        row, tracker = self._row_of.get(key), self._trackers.get(key)
        if row is not None and tracker is not None:
            tracker.finished(request_id)
            self.data[SLACK.at, row] = tracker.again(float(self.data[Column.PREFILL_TOKEN_S, row]))

    def _refresh_speeds(self) -> None:
        for key in self._speeds.changed():
            row = self._row_of.get(key)
            if row is not None:
                self._write_speed(row, key)

    def _refresh_views(self, snapshot: FleetSnapshot) -> None:
        workers, views = snapshot.workers, self._layout.views
        if len(workers) != len(views):
            self._rebuild(snapshot)
            return
        for index in list(compress(range(len(views)), map(is_not, workers, views))):
            if not self._refresh_view(index, workers[index]):
                self._rebuild(snapshot)
                return

    def _refresh_view(self, index: int, view: WorkerView) -> bool:
        """False where its rows would not be the same ones."""
        old = self._layout.views[index]
        if view is old:
            return True
        same = _same_facts(old, view)
        if not same and (view.worker_id != old.worker_id or _keys(view) != self._keys_of[old.worker_id]):
            return False
        self._layout.views[index] = view
        self._update(index, old, same=same)
        return True

    def _update(self, index: int, old: WorkerView | None, *, same: bool) -> None:
        """Write what differs from ``old``; ``same``: its facts do not."""
        view, row = self._layout.views[index], self._layout.first_row[index]
        if old is None or not same or view.state is not old.state or view.cordoned != old.cordoned:
            self._eligibility.changed(view.worker_id)
        for instance in view.models:
            self._rows[row] = (view, instance)
            if not same:
                self._write_facts(row, view, instance)
            self._write_load(row, view)
            if old is None or not same or view.load is not old.load:
                self._write_progress(row, view)
            row += 1

    def _rebuild(self, snapshot: FleetSnapshot) -> None:
        """Somebody came, left, or has other models. What is known of the others moves to its new rows as it is."""
        before, data, rows = self._layout, self.data, self._row_of
        views = {view.worker_id: view for view in before.views}
        keys_of = self._keys_of
        self._layout = layout = Layout(views=list(snapshot.workers))
        self._index_of, self._keys_of, self._row_of, self._rows = {}, {}, {}, []
        for index, view in enumerate(snapshot.workers):
            self._index_of[view.worker_id] = index
            layout.first_row.append(len(self._rows))
            known = view is views.get(view.worker_id)
            keys = self._keys_of[view.worker_id] = keys_of[view.worker_id] if known else _keys(view)
            for key, instance in zip(keys, view.models, strict=True):
                self._row_of[key] = len(self._rows)
                self._rows.append((view, instance))
                layout.keys.append(key)
                layout.nodes.append(view.profile.node)
                layout.index_rows.append(before.index_rows[rows[key]] if key in rows else 0)
        self.data = np.zeros((COLUMNS, len(self._rows)))
        kept = [(row, rows[key]) for key, row in self._row_of.items() if key in rows]
        if kept:
            now, then = zip(*kept, strict=True)
            self.data[:, now] = data[:, then]
        self._curves.moved(len(self._rows), kept)
        self._eligibility.moved(layout)
        for index, view in enumerate(snapshot.workers):
            if view is not (old := views.get(view.worker_id)):
                self._update(index, old, same=old is not None and _same_facts(old, view))
        for key in [key for key in self._incarnations if key not in self._row_of]:
            del self._incarnations[key]
            self._prefixes.forget(key)
            self._speeds.forget(key)
            self._prefill_shares.pop(key, None)
            self._trackers.pop(key, None)

    def _write_facts(self, row: int, view: WorkerView, instance: ModelInstance) -> None:
        key = self._layout.keys[row]
        self._layout.nodes[row] = view.profile.node
        if len(self._known) < MAX_MODELS:
            self._known[instance.model] = None
        if self._incarnations.get(key, view.profile.incarnation) != view.profile.incarnation:
            self._prefixes.forget(key)  # the process started anew, with an empty cache
        self._incarnations[key] = view.profile.incarnation
        self._speeds.ensure(key, view, instance)
        blocks = int(instance.kv_capacity_tokens / _BLOCK_TOKENS_GUESS)
        self._layout.index_rows[row] = self._prefixes.index_row(key, blocks)
        kv_capacity = instance.kv_capacity_tokens or _FOREVER
        self.data[LOADED.at, row] = (
            max(instance.slots, 1),
            min(instance.context_tokens or _FOREVER, kv_capacity),
            kv_capacity,
            self._loss(instance),
        )
        self._write_speed(row, key)

    def _loss(self, instance: ModelInstance) -> float:
        if instance.perplexity_ratio > 0.0:  # measured beats tabulated
            return instance.perplexity_ratio - 1.0
        return self._quality.loss(instance.parameters, instance.quantization)

    def _write_speed(self, row: int, key: InstanceKey) -> None:
        speed = self._speeds.speed(key)
        prefill_base_s, _ = speed.prefill_line(_FOREVER)
        self.data[SPEED.at, row] = (
            speed.base_s,
            speed.per_sequence_s,
            speed.per_context_token_s,
            1.0 / speed.prefill_tokens_per_s,
            prefill_base_s,
        )
        self._curves.write_speed(row, speed, self.data[:, row])

    def _write_progress(self, row: int, view: WorkerView) -> None:
        key = self._layout.keys[row]
        share = self._prefill_shares.get(key)
        if share is None:
            share = self._prefill_shares[key] = PrefillShare()
            self._trackers[key] = SlackTracker()
        load = view.load
        token_s = self.data.item(Column.PREFILL_TOKEN_S, row)
        average = share.update(load.prefill_progress, load.observed_at, token_s)
        slack = self._trackers[key].observed(
            Progress(
                load.observed_at,
                load.step_sequence,
                load.prefill_progress,
                load.prefill_tokens_pending,
                view.inflight.requests,
                load.last_step_s > 0.0,
            ),
            token_s,
        )
        # An idle worker says nothing more until it has work: its last share must not stand there for ever.
        busy = load.running + load.waiting > 0
        self.data[PROGRESS.at, row] = (average if busy else 0.0, *slack)

    def _set_aside_until(self, row: int, view: WorkerView) -> float:
        key = self._layout.keys[row]
        held = view.set_aside.get((key.model, key.quantization))
        return 0.0 if held is None else _FOREVER if held.proving else held.until

    def _write_load(self, row: int, view: WorkerView) -> None:
        load, claims = view.load, view.inflight
        suspended = view.suspended_until
        if view.probing and load.running + load.waiting + claims.requests > 0:
            suspended = _FOREVER
        if view.set_aside:
            suspended = max(suspended, self._set_aside_until(row, view))
        held = load.context_tokens + claims.prompt_tokens
        # An empty worker takes whatever its context admits, so that nothing waits for room that cannot come.
        free = self.data.item(Column.KV_CAPACITY, row) - held if held > 0 else _FOREVER
        self.data[VIEW.at, row] = (
            view.rtt_s,
            load.price_s,
            suspended,
            load.observed_at,
            load.running,
            load.waiting,
            load.kv_used,
            free,
            load.running + load.waiting,
            load.context_tokens,
            load.expected_remaining_tokens,
            load.prefill_tokens_pending,
            claims.requests,
            claims.prompt_tokens,
            claims.output_tokens,
            claims.prompt_tokens,
        )
        if self._curves:
            self._curves.write_load(row, self.data[:, row])


def _keys(view: WorkerView) -> tuple[InstanceKey, ...]:
    return tuple(InstanceKey(view.worker_id, one.model, one.quantization) for one in view.models)


def _same_facts(old: WorkerView, view: WorkerView) -> bool:
    """Of the machine and its models: what seldom changes."""
    return (view.profile is old.profile or view.profile == old.profile) and (
        view.models is old.models or view.models == old.models
    )
