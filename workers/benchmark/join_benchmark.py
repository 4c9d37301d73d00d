"""The join benchmark: a few seconds on the loaded model, through the engine interface as any request.

Streams are added step by step at several context lengths, which times pure decode at each context, prefill alone, and
prefill mixed into decode. Then traffic: requests of all lengths come and go, and how many run wanders up to a limit.
Sequences that come and go lie otherwise in an engine's memory than those that were added in order, and compute
slower: it is their steps that requests will see. The figures are fitted in ``workers.benchmark.speed_fit``
and kept in a file, keyed by machine, engine, model file and quantization.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from enum import StrEnum

import structlog

from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.probe import Probe
from workers.benchmark.speed_fit import fit_speed, median_relative_error
from workers.benchmark.store import BenchmarkStore, benchmark_key
from workers.engines.base import Engine, ModelSpec, Refused
from workers.engines.step_reader import StepReader
from workers.neighbours.turns import MachineTurns, Say

log = structlog.get_logger(__name__)


class Effort(StrEnum):
    """How long to measure."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """Streams added at one context length until each of ``batches`` has decoded together for some steps."""

    context_tokens: int
    batches: tuple[int, ...]
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """So many seconds with between ``least`` and ``most`` streams, and now and then another number of them."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that come and go, from few streams to many; many take longer, because their steps do.

    Lengths are drawn between a least and a most, every number of tokens: kernels compute multiples of four faster
    than their neighbours, and a few fixed lengths would stand for all.
    """

    levels: tuple[Level, ...]
    prompt_tokens: tuple[int, int] = (4, 128)
    output_tokens: tuple[int, int] = (6, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured; ``budget_s`` bounds when the next level may begin, four times that ends it whatever runs."""

    ramps: tuple[Ramp, ...]
    traffic: Traffic
    budget_s: float


PLANS = {
    Effort.QUICK: Plan(
        ramps=(
            Ramp(context_tokens=24, batches=(1, 2, 4, 8, 16), steps=4),
            Ramp(context_tokens=160, batches=(1, 4), steps=4),
        ),
        traffic=Traffic(levels=(Level(least=1, most=4, seconds=0.5), Level(least=4, most=16, seconds=0.5))),
        budget_s=3.0,
    ),
    Effort.FULL: Plan(
        ramps=(
            Ramp(context_tokens=32, batches=(1, 16), steps=8),
            Ramp(context_tokens=400, batches=(1, 2), steps=8),
        ),
        traffic=Traffic(
            levels=(
                Level(least=1, most=4, seconds=3.0),
                Level(least=4, most=8, seconds=4.0),
                Level(least=8, most=16, seconds=6.0),
            )
        ),
        budget_s=18.0,
    ),
}


class JoinBenchmark:
    """Measures a loaded model, or reads what was measured before. Has the shape of ``model_manager.Measure``.

    ``turns``: of the machine that it computes on; None: nothing that is measured here runs on this machine.
    """

    def __init__(
        self, hardware: Hardware, effort: Effort, store: BenchmarkStore | None, turns: MachineTurns | None = None
    ) -> None:
        self._hardware = hardware
        self._plan = PLANS[effort]
        self._store = store
        self._effort = effort
        self._turns = turns

    async def __call__(
        self, engine: Engine, reader: StepReader, loaded: ModelInstance, spec: ModelSpec, say: Say = lambda _: None
    ) -> MeasuredSpeed | None:
        """The model's speed; None when it could not be measured, which is logged and harms nothing. ``say`` hears of
        a wait for its turn.
        """
        key = benchmark_key(self._hardware, engine.kind, engine.version, loaded, spec, self._effort)
        if key and self._store is not None and (speed := self._store.read(key)) is not None:
            log.info("benchmark.cached", model=loaded.model, prefill_tokens_per_s=round(speed.prefill_tokens_per_s))
            return speed
        async with contextlib.nullcontext(True) if self._turns is None else self._turns.measuring(say) as alone:
            speed = await self._measured(engine, reader, loaded)
        if speed is not None and key and self._store is not None and alone:  # among others: true today alone
            self._store.write(key, speed)
        return speed

    async def _measured(self, engine: Engine, reader: StepReader, loaded: ModelInstance) -> MeasuredSpeed | None:
        log.info("benchmark.started", model=loaded.model, effort=self._effort)
        started = time.monotonic()
        try:
            async with asyncio.timeout(4 * self._plan.budget_s):
                samples = await measure(engine, reader, loaded, self._plan)
        except (Refused, TimeoutError) as error:
            log.warning("benchmark.failed", model=loaded.model, reason=str(error) or "took too long")
            return None
        speed = fit_speed(samples, weights_bytes=loaded.weights_bytes, measured_at_unix_s=time.time())
        if speed is None:
            log.warning("benchmark.failed", model=loaded.model, reason="no decode step was seen")
            return None
        log.info(
            "benchmark.complete",
            model=loaded.model,
            seconds=round(time.monotonic() - started, 2),
            samples=len(samples),
            tokens_per_s=round(speed.stream_tokens_per_s, 1),
            prefill_tokens_per_s=round(speed.prefill_tokens_per_s),
            fit_error=round(median_relative_error(speed), 3),
        )
        return speed


async def measure(engine: Engine, reader: StepReader, loaded: ModelInstance, plan: Plan) -> tuple[StepSample, ...]:
    """Timed steps of this model. Raises Refused when the engine does not take the probes."""
    probe = Probe(engine, loaded)
    with reader.listening(probe.on_step):
        try:
            await probe.warm_up()
            started = time.monotonic()
            deadline = started + plan.budget_s
            await _climb(probe, plan.ramps[0], loaded, deadline)
            if probe.tells_steps:  # else the engine tells no steps, and traffic would teach nothing
                await _pass(probe, plan.traffic, loaded, deadline)
            for ramp in plan.ramps[1:]:
                await _climb(probe, ramp, loaded, deadline)
        finally:
            probe.abort_all()
        await probe.idle()
    return probe.samples()


async def _climb(probe: Probe, ramp: Ramp, loaded: ModelInstance, deadline: float) -> None:
    """One ramp: what does not fit the model's slots, context or KV cache, or the time, is left out."""
    room = loaded.context_tokens - ramp.steps * len(ramp.batches) * 8 - 16
    context = min(ramp.context_tokens, room)
    for batch in ramp.batches:
        fits = batch <= loaded.slots and batch * (context + 64) <= (loaded.kv_capacity_tokens or 1 << 60)
        if context < 8 or not fits or time.monotonic() > deadline:
            break
        await probe.grow(batch, context)
        await probe.decode(ramp.steps)
    probe.abort_all()
    await probe.idle()


async def _pass(probe: Probe, traffic: Traffic, loaded: ModelInstance, deadline: float) -> None:
    """The traffic, from few streams to many."""
    shortest, longest = traffic.prompt_tokens
    longest = min(longest, (loaded.context_tokens - traffic.output_tokens[1]) // 2)
    for level in traffic.levels:
        if level.most > loaded.slots or longest < shortest or time.monotonic() > deadline:
            break
        until = time.monotonic() + level.seconds
        while time.monotonic() < until:
            await probe.wander((level.least, level.most), (shortest, longest), traffic.output_tokens)
    probe.abort_all()
    await probe.idle()
