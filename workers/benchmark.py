"""The join benchmark: a few seconds on the loaded model, through the engine interface as any request.

Streams are added step by step (1, 2, 4, 8, 12, 16 decoding together) at several context lengths, so that one ramp
times pure decode at each batch, prefill alone, and prefill mixed into decode. The figures are fitted in
``workers.speed_fit`` and kept in a file, keyed by machine, engine, model file and quantization.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from workers.benchmark_store import BenchmarkStore, benchmark_key
from workers.engines.base import Delta, Engine, Job, LoadedModel, ModelSpec, Refused, Sampling, StepResult
from workers.facts import Hardware, Speed, StepSample
from workers.hub import StepHub
from workers.speed_fit import fit_speed, median_relative_error

log = structlog.get_logger(__name__)

WORDS = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "winter",
    "market",
    "bridge",
    "candle",
    "forest",
    "silver",
    "morning",
    "harbour",
    "paper",
    "mountain",
    "kitchen",
    "summer",
    "travel",
    "engine",
    "copper",
    "island",
    "shadow",
    "orange",
    "planet",
    "velvet",
    "thunder",
    "meadow",
    "cotton",
    "mirror",
    "lantern",
]
"""Prompts are random words of these, different at every run: nothing is found in a prefix cache."""

TOKENS_PER_WORD = 1.3
"""Rough, to aim at a context length; what is recorded are the engine's own counts."""


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
class Plan:
    """What is measured; ``budget_s`` bounds when the next level may begin, four times that ends it whatever runs."""

    ramps: tuple[Ramp, ...]
    budget_s: float


PLANS = {
    Effort.QUICK: Plan(
        ramps=(
            Ramp(context_tokens=24, batches=(1, 2, 4, 8, 16), steps=4),
            Ramp(context_tokens=160, batches=(1, 4), steps=4),
        ),
        budget_s=3.0,
    ),
    Effort.FULL: Plan(
        ramps=(
            Ramp(context_tokens=32, batches=(1, 2, 4, 8, 12, 15, 16), steps=8),
            Ramp(context_tokens=200, batches=(1, 4, 8), steps=8),
            Ramp(context_tokens=600, batches=(1, 2), steps=8),
        ),
        budget_s=12.0,
    ),
}

MAX_SAMPLES = 1024


class JoinBenchmark:
    """Measures a loaded model, or reads what was measured before. Has the shape of ``shelf.Measure``."""

    def __init__(self, hardware: Hardware, effort: Effort, store: BenchmarkStore | None) -> None:
        self._hardware = hardware
        self._plan = PLANS[effort]
        self._store = store
        self._effort = effort

    async def __call__(self, engine: Engine, hub: StepHub, loaded: LoadedModel, spec: ModelSpec) -> Speed | None:
        """The model's speed; None when it could not be measured, which is logged and harms nothing."""
        key = benchmark_key(self._hardware, engine.kind, engine.version, loaded, spec, self._effort)
        if key and self._store is not None and (speed := self._store.read(key)) is not None:
            log.info("benchmark.cached", model=loaded.name, prefill_tokens_per_s=round(speed.prefill_tokens_per_s))
            return speed
        log.info("benchmark.started", model=loaded.name, effort=self._effort)
        started = time.monotonic()
        try:
            async with asyncio.timeout(4 * self._plan.budget_s):
                samples = await measure(engine, hub, loaded, self._plan)
        except (Refused, TimeoutError) as error:
            log.warning("benchmark.failed", model=loaded.name, reason=str(error) or "took too long")
            return None
        speed = fit_speed(samples, weights_bytes=loaded.weights_bytes, measured_at_unix_s=time.time())
        if speed is None:
            log.warning("benchmark.failed", model=loaded.name, reason="no decode step was seen")
            return None
        if key and self._store is not None:
            self._store.write(key, speed)
        log.info(
            "benchmark.complete",
            model=loaded.name,
            seconds=round(time.monotonic() - started, 2),
            samples=len(samples),
            tokens_per_s=round(1 / speed.step_s(1, 64), 1),
            prefill_tokens_per_s=round(speed.prefill_tokens_per_s),
            fit_error=round(median_relative_error(speed), 3),
        )
        return speed


async def measure(engine: Engine, hub: StepHub, loaded: LoadedModel, plan: Plan) -> tuple[StepSample, ...]:
    """Timed steps of this model. Raises Refused when the engine does not take the probes."""
    probe = _Probe(engine, loaded)
    with hub.listening(probe.hear):
        try:
            await probe.warm_up()
            started = time.monotonic()
            for ramp in plan.ramps:
                await _climb(probe, ramp, loaded, started + plan.budget_s)
        finally:
            probe.abort_all()
        await probe.idle()
    return probe.samples()


async def _climb(probe: "_Probe", ramp: Ramp, loaded: LoadedModel, deadline: float) -> None:
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


@dataclass(slots=True)
class _Probe:
    """Keeps a number of streams going and notes every step."""

    engine: Engine
    loaded: LoadedModel
    rng: random.Random = field(default_factory=random.Random)
    live: dict[str, int] = field(default_factory=dict)  # request -> tokens it has written
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    steps: list[StepSample] = field(default_factory=list)
    levels: list[StepSample] = field(default_factory=list)  # by the clock, over a whole level
    overheads: list[float] = field(default_factory=list)  # seconds a step beyond what the engine says it took
    sequence: int = -1
    count: int = 0

    # -------------------------------------------------------- hearing

    def hear(self, result: StepResult) -> None:
        load = result.load
        if load.step_sequence != self.sequence and load.last_step_s > 0 and self.live:
            self.sequence = load.step_sequence
            self.steps.append(
                StepSample(
                    batch=load.last_step_batch,
                    context_tokens=load.context_tokens,
                    prefill_tokens=load.last_step_prefill_tokens,
                    step_s=load.last_step_s,
                    prefills=load.last_step_prefills,
                )
            )
        for delta in result.deltas:
            self._hear_delta(delta)
        self.changed.set()

    def _hear_delta(self, delta: Delta) -> None:
        if delta.request_id in self.live:
            self.live[delta.request_id] += delta.token_count
            if delta.finish_reason is not None:
                del self.live[delta.request_id]

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.changed.clear()
            await self.changed.wait()

    # -------------------------------------------------------- acting

    async def warm_up(self) -> None:
        """One short request, not timed: first steps allocate and compile."""
        await self.grow(1, 8)
        await self._until(lambda: not self.live or min(self.live.values()) >= 4)
        self.abort_all()
        await self.idle()
        self.steps.clear()
        self.levels.clear()

    async def grow(self, batch: int, context_tokens: int) -> None:
        """Add streams until ``batch`` decode together."""
        alone = not self.live
        started = time.monotonic()
        prompt_tokens = 0
        while len(self.live) < batch:
            prompt_tokens += await self._submit(context_tokens)
        await self._until(lambda: all(self.live.values()))
        if alone and batch == 1:
            waited_s = time.monotonic() - started
            self.levels.append(StepSample(batch=0, context_tokens=0, prefill_tokens=prompt_tokens, step_s=waited_s))

    async def _submit(self, context_tokens: int) -> int:
        self.count += 1
        request_id = f"benchmark-{id(self):x}-{self.count}"
        words = [self.rng.choice(WORDS) for _ in range(max(2, int(context_tokens / TOKENS_PER_WORD)))]
        job = Job(
            request_id=request_id,
            attempt=0,
            model=self.loaded.name,
            quantization=self.loaded.quantization,
            prompt=f"{self.rng.randrange(10**6)} " + " ".join(words),
            sampling=Sampling(temperature=0.0, ignore_eos=True, max_tokens=self._max_tokens(context_tokens)),
        )
        self.live[request_id] = 0
        try:
            accepted = await self.engine.submit(job)
        except Refused:
            del self.live[request_id]
            raise
        return accepted.prompt_tokens

    def _max_tokens(self, context_tokens: int) -> int:
        return max(8, min(512, self.loaded.context_tokens - 2 * context_tokens - 8))

    async def decode(self, steps: int) -> None:
        """Let every stream write ``steps`` more tokens; time the level by the clock."""
        batch = len(self.live)
        before, mark, started = dict(self.live), len(self.steps), time.monotonic()
        await self._until(
            lambda: any(name not in self.live or self.live[name] >= before[name] + steps for name in before)
        )
        elapsed_s = time.monotonic() - started
        tokens = sum(self.live.get(name, at + steps) - at for name, at in before.items())
        if not batch or tokens < batch:
            return
        cycle_s = elapsed_s * batch / tokens
        seen = [one.step_s for one in self.steps[mark:] if one.prefill_tokens == 0 and one.batch == batch]
        context = max((one.context_tokens for one in self.steps[mark:]), default=0)
        self.levels.append(StepSample(batch=batch, context_tokens=context, prefill_tokens=0, step_s=cycle_s))
        if seen:
            self.overheads.append(max(0.0, cycle_s - sum(seen) / len(seen)))

    def abort_all(self) -> None:
        for request_id in list(self.live):
            self.engine.abort(request_id, 0)

    async def idle(self) -> None:
        await self._until(lambda: not self.live)

    # -------------------------------------------------------- result

    def samples(self) -> tuple[StepSample, ...]:
        """Every step, with what passes between two steps added; by the clock alone where the engine tells no steps."""
        if not self.overheads:
            return tuple(self.levels)
        between_s = sorted(self.overheads)[len(self.overheads) // 2]
        steps = self.steps if len(self.steps) <= MAX_SAMPLES else self.rng.sample(self.steps, MAX_SAMPLES)
        return tuple(
            StepSample(
                batch=one.batch,
                context_tokens=one.context_tokens,
                prefill_tokens=one.prefill_tokens,
                step_s=one.step_s + between_s,
                prefills=one.prefills,
            )
            for one in steps
            if one.batch or one.prefill_tokens
        )
