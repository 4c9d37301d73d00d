"""A worker on the virtual clock: it really runs requests step by step at its true speed, and reports loads as an
engine does. What a placer believes about it can be compared with what is true.
"""

import random
from dataclasses import dataclass, replace

from protos.contract.ids import WorkerId
from protos.contract.worker import Load, Speed
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.placement.interfaces import Dispatched
from router.scheduling.placement.placer import ComposedPlacer

REPORT_S = 0.05
"""Least time between two load reports, as on a real session."""

PREFILL_CHUNK = 512


@dataclass
class _Job:
    request: InferenceRequest
    dispatched: Dispatched
    output: int
    dispatched_at: float
    prefill_left: int
    produced: int = 0
    first_at: float | None = None


class VirtualWorker:
    """Serves what ``placer`` sends it, at ``true`` speed with a few percent of jitter; one worker in ``fleet``."""

    def __init__(
        self, placer: ComposedPlacer, fleet: FleetSnapshot, true: Speed, *, reports_steps: bool = True
    ) -> None:
        self.placer = placer
        self.fleet = fleet
        self.true = true
        self.now = 0.0
        self.finished = 0
        self._reports_steps = reports_steps
        self._jobs: list[_Job] = []
        self._rng = random.Random(7)
        self._steps = 0
        self._reported_at = -1.0

    def send(self, request: InferenceRequest, output: int) -> None:
        """Place and dispatch one request."""
        placed = self.placer.place(request, self.fleet, self.now)
        assert isinstance(placed, Placed), placed
        dispatched = self.placer.dispatched(request, placed, self.now)
        self._jobs.append(_Job(request, dispatched, output, self.now, request.prompt_tokens_estimate))

    @property
    def running(self) -> int:
        """Requests not finished."""
        return len(self._jobs)

    def step(self) -> None:
        """One engine step: decode all that are past their prefill, and a chunk of the first that is not."""
        decoding = [job for job in self._jobs if job.prefill_left <= 0]
        context = sum(job.request.prompt_tokens_estimate + job.produced for job in decoding)
        taken = self.true.step_s(len(decoding), context) if decoding else self.true.prefill_base_s
        prefilled = 0
        for job in self._jobs:
            if job.prefill_left > 0:
                prefilled = min(PREFILL_CHUNK, job.prefill_left)
                job.prefill_left -= prefilled
                taken += self.true.tokens_s(prefilled)
                if job.prefill_left <= 0:
                    decoding.append(job)  # the step that ends a prefill gives its first token
                break
        taken *= self._rng.gauss(1.0, 0.03)
        self.now += taken
        self._steps += 1
        for job in decoding:
            self._produce(job)
        self._report(taken, len(decoding) - (1 if prefilled else 0), prefilled, context)

    def _produce(self, job: _Job) -> None:
        job.produced += 1
        if job.first_at is None:
            job.first_at = self.now
        if job.produced < job.output:
            return
        self._jobs.remove(job)
        self.finished += 1
        self.placer.finished(
            job.dispatched,
            Outcome(
                finished_at=self.now,
                ttft_s=job.first_at - job.dispatched_at,
                e2e_s=self.now - job.dispatched_at,
                prompt_tokens=job.request.prompt_tokens_estimate,
                completion_tokens=job.produced,
            ),
            self.now,
        )

    def _report(self, taken: float, batch: int, prefilled: int, context: int) -> None:
        if self.now - self._reported_at < REPORT_S:
            return
        self._reported_at = self.now
        load = Load(
            observed_at=self.now,
            running=len(self._jobs),
            prefill_tokens_pending=sum(max(job.prefill_left, 0) for job in self._jobs),
            context_tokens=context,
            expected_remaining_tokens=sum(job.output - job.produced for job in self._jobs),
            step_sequence=self._steps,
            last_step_s=taken if self._reports_steps else 0.0,
            last_step_batch=max(batch, 0),
            last_step_prefill_tokens=prefilled,
        )
        view = replace(self.fleet.workers[0], load=load)
        self.fleet = replace(self.fleet, workers=(view, *self.fleet.workers[1:]), version=self.fleet.version + 1)
        self.placer.observed(self.fleet, WorkerId(view.worker_id), self.now)
