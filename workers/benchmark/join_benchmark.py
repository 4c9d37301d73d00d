"""The join benchmark: a few seconds on the loaded model, through the engine interface as any request.

Streams are added batch by batch, each until its steps have settled, and closer where the curve bends; prompts of
several lengths are timed alone; a long context shows what its tokens cost (``course``). Then traffic: requests of all
lengths come and go. Sequences that come and go lie otherwise in an engine's memory than those that were added in order,
and compute slower, which the simulated engine's profile is to have too. At last some batches are measured again: how
far they lie from the curve is how well it fits, and where they do not fit everything is repeated once. The curves are
fitted in ``curve_fit``, the line beside them in ``speed_fit``; the result is kept in a file with all it depends on.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.course import Course
from workers.benchmark.curve_fit import with_curves
from workers.benchmark.measured_speed import Findings, MeasuredSpeed, StepSample
from workers.benchmark.plan import PLANS, Effort, Plan
from workers.benchmark.probe import Probe
from workers.benchmark.speed_fit import fit_speed, median_relative_error
from workers.benchmark.store import BenchmarkStore, benchmark_key, dependencies
from workers.engines.base import Engine, ModelSpec, Refused
from workers.engines.step_reader import StepReader
from workers.neighbours.turns import MachineTurns, Say

log = structlog.get_logger(__name__)


KEPT_BELOW = 0.3
"""Of the fit's error: what holds no better is told, and measured again at the next start."""


class JoinBenchmark:
    """Measures a loaded model, or reads what was measured before. Has the shape of ``model_manager.Measure``.

    ``turns``: of the machine that it computes on; None: nothing that is measured here runs on this machine.
    """

    def __init__(
        self,
        hardware: Hardware,
        effort: Effort,
        store: BenchmarkStore | None,
        turns: MachineTurns | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hardware = hardware
        self._plan = PLANS[effort]
        self._store = store
        self._effort = effort
        self._turns = turns
        self._clock = clock

    async def __call__(
        self, engine: Engine, reader: StepReader, loaded: ModelInstance, spec: ModelSpec, say: Say = lambda _: None
    ) -> MeasuredSpeed | None:
        """The model's speed; None when it could not be measured, which is logged and harms nothing. ``say`` hears of
        a wait for its turn.
        """
        facts = dependencies(self._hardware, engine.kind, engine.version, loaded, spec, self._effort)
        key = benchmark_key(facts)
        if key and self._store is not None and (speed := self._store.read(key)) is not None:
            log.info("benchmark.cached", model=loaded.model, prefill_tokens_per_s=round(speed.prefill_tokens_per_s))
            return speed
        if spec.urgent:
            log.info("benchmark.skipped", model=loaded.model, reason="somebody waits for it")
            return None
        async with contextlib.nullcontext(True) if self._turns is None else self._turns.measuring(say) as alone:
            speed = await self._measured(engine, reader, loaded)
        if speed is not None:
            speed = replace(speed, depends_on=facts)
        # Among others it is true today alone, and what does not fit is not even that.
        if speed is not None and key and self._store is not None and alone and speed.fit_error <= KEPT_BELOW:
            self._store.write(key, speed)
        return speed

    async def _measured(self, engine: Engine, reader: StepReader, loaded: ModelInstance) -> MeasuredSpeed | None:
        log.info("benchmark.started", model=loaded.model, effort=self._effort)
        started = self._clock()
        try:
            async with asyncio.timeout(4 * self._plan.budget_s):
                speed = await measure(engine, reader, loaded, self._plan, self._clock)
        except (Refused, TimeoutError) as error:
            log.warning("benchmark.failed", model=loaded.model, reason=str(error) or "took too long")
            return None
        if speed is None:
            log.warning("benchmark.failed", model=loaded.model, reason="no decode step was seen")
            return None
        log.info(
            "benchmark.complete",
            model=loaded.model,
            seconds=round(self._clock() - started, 2),
            samples=len(speed.samples),
            tokens_per_s=round(speed.stream_tokens_per_s, 1),
            prefill_tokens_per_s=round(speed.prefill_tokens_per_s),
            batches=len(speed.decode_curve),
            fit_error=round(speed.fit_error, 3),
            traffic_error=round(median_relative_error(speed), 3),
        )
        return speed


async def measure(
    engine: Engine, reader: StepReader, loaded: ModelInstance, plan: Plan, clock: Callable[[], float]
) -> MeasuredSpeed | None:
    """The model's speed; None where no step was seen. Raises Refused when the engine does not take the probes."""
    probe = Probe(engine, loaded, clock)
    with reader.listening(probe.on_step):
        try:
            await probe.warm_up()
            course = Course(probe, loaded, plan, clock)
            found = await course.run(lambda so_far: speed.fit_error if (speed := _speed(so_far, loaded)) else 0.0)
        finally:
            probe.abort_all()
        await probe.idle()
    return _speed(found, loaded)


def _speed(found: Findings, loaded: ModelInstance) -> MeasuredSpeed | None:
    line = fit_speed(found.samples, weights_bytes=loaded.weights_bytes, measured_at_unix_s=time.time())
    if line is None and found.levels:  # an engine that tells no steps
        told = [
            StepSample(batch=one.batch, context_tokens=one.context_tokens, prefill_tokens=0, step_s=one.step_s)
            for one in found.levels
        ]
        line = fit_speed(told, weights_bytes=loaded.weights_bytes, measured_at_unix_s=time.time())
    return None if line is None else with_curves(line, found, loaded)
