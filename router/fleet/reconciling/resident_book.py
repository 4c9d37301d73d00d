"""Since when each copy is there, when it was last used, and how often loading it failed: what no report says."""

import math
from dataclasses import dataclass

from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.fleet.member import Member

Key = tuple[str, str]
"""Model, quantization."""

FORGET_AFTER_S = 3600.0
"""How long what is known of a worker that is gone is remembered: a failure that repeats is one."""

COMMAND_HEARD_S = 10.0
"""A command of which the worker has said nothing for so long did not reach it."""


@dataclass(slots=True)
class Residence:
    """One copy. Times are monotonic."""

    state: InstanceState = InstanceState.UNLOADED
    since: float = 0.0  # it is ready
    used_at: float = 0.0
    failures: int = 0  # in a row
    failed_at: float = -math.inf


@dataclass(slots=True)
class _Worker:
    copies: dict[Key, Residence]
    seen_at: float
    looks: tuple[object, ...] = ()  # what a plan depends on
    commanded: Key | None = None
    commanded_at: float = 0.0


class ResidentBook:
    """Told of every change of a member; asked by the planner's eyes."""

    def __init__(self) -> None:
        self._workers: dict[WorkerId, _Worker] = {}

    def commanded(self, worker_id: WorkerId, key: Key, now: float) -> None:
        """A load or an unload was sent; until the worker says something of it, it counts as under way."""
        worker = self._of(worker_id, now)
        worker.commanded, worker.commanded_at = key, now

    def under_way(self, worker_id: WorkerId, now: float) -> bool:
        """Whether the worker has still to say something of the last command."""
        worker = self._workers.get(worker_id)
        return worker is not None and worker.commanded is not None and now - worker.commanded_at < COMMAND_HEARD_S

    def of(self, worker_id: WorkerId, key: Key) -> Residence:
        """What is known of a copy."""
        worker = self._workers.get(worker_id)
        return (worker.copies.get(key) if worker is not None else None) or Residence()

    def follow(self, member: Member, now: float) -> bool:
        """Take note of what changed; whether that is anything a plan depends on."""
        worker = self._of(member.worker_id, now)
        looks = (
            member.session_id,
            member.state,
            member.cordoned,
            *((k, one.state) for k, one in member.models.items()),
        )
        if looks == worker.looks:
            return False
        worker.looks = looks
        for key in {*member.models, *worker.copies}:
            kept = worker.copies.setdefault(key, Residence())
            instance = member.models.get(key)
            state = InstanceState.UNLOADED if instance is None else instance.state
            if state is not kept.state:
                self._changed(worker, key, kept, state, now)
        return True

    def forget(self, now: float) -> None:
        """Drop workers that were seen last long ago."""
        for worker_id in [one for one, kept in self._workers.items() if now - kept.seen_at > FORGET_AFTER_S]:
            del self._workers[worker_id]

    def _of(self, worker_id: WorkerId, now: float) -> _Worker:
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._workers[worker_id] = _Worker(copies={}, seen_at=now)
        worker.seen_at = now
        return worker

    def _changed(self, worker: _Worker, key: Key, kept: Residence, state: InstanceState, now: float) -> None:
        if worker.commanded == key:
            worker.commanded = None
        if state is InstanceState.READY:
            kept.since = now
            kept.failures = 0
        elif state is InstanceState.FAILED:
            kept.failures += 1
            kept.failed_at = now
        kept.state = state
