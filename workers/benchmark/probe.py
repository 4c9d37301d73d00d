"""What the join benchmark measures with: keeps a number of streams going in an engine and notes every step."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

from protos.contract.ids import RequestId
from protos.contract.request import Job, Sampling
from protos.contract.stream import Delta
from protos.contract.worker import ModelInstance
from workers.benchmark.measured_speed import Level, PromptTime, StepSample
from workers.engines.base import Engine, Refused, StepResult

WORDS = [
    "river", "stone", "window", "garden", "letter", "winter", "market", "bridge", "candle", "forest",
    "silver", "morning", "harbour", "paper", "mountain", "kitchen", "summer", "travel", "engine", "copper",
    "island", "shadow", "orange", "planet", "velvet", "thunder", "meadow", "cotton", "mirror", "lantern",
]  # fmt: skip
"""Prompts are random words of these, different at every run: nothing is found in a prefix cache."""

TOKENS_PER_WORD = 1.3
"""Until the engine's own counts say better."""

MAX_SAMPLES = 1024

UNSETTLED_STEPS = 3
"""The first steps of a batch capture graphs and load kernels (one H100, llama.cpp: two, 1.2 to 2 times as long)."""

LEAST_STEPS = 2
SETTLED_SPREAD = 0.1
"""Between the quartiles of steps that have settled; more are taken while they lie further apart, up to three times as
many."""

WANDER_SHARE = 0.1
"""Of steps after which another number of streams is wanted: less often than sequences end, so that gaps open."""


@dataclass(slots=True)
class Probe:
    """Keeps a number of streams going and notes every step."""

    engine: Engine
    loaded: ModelInstance
    clock: Callable[[], float]
    rng: random.Random = field(default_factory=random.Random)
    live: dict[str, int] = field(default_factory=dict)  # request -> tokens it has written
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    steps: list[StepSample] = field(default_factory=list)
    count: int = 0
    tokens_per_word: float = TOKENS_PER_WORD
    wanted: int = 1  # streams, while traffic comes and goes

    # -------------------------------------------------------- what the engine did

    def on_step(self, result: StepResult) -> None:
        """What one engine step brought."""
        step = result.step
        if step is not None and self.live:
            self.steps.append(
                StepSample(
                    batch=step.batch,
                    context_tokens=step.context_tokens,
                    prefill_tokens=step.prefill_tokens,
                    step_s=step.seconds,
                    prefills=step.prefills,
                )
            )
        for delta in result.deltas:
            self._on_delta(delta)
        self.changed.set()

    def _on_delta(self, delta: Delta) -> None:
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

    async def grow(self, batch: int, context_tokens: int) -> None:
        """Add streams, or end the youngest, until ``batch`` decode together."""
        for request_id in list(self.live)[batch:]:
            self.engine.abort(request_id, 0)
        await self._until(lambda: len(self.live) <= batch)
        while len(self.live) < batch:
            await self._submit(context_tokens)
        await self._until(lambda: all(self.live.values()))

    async def settle(self, steps: int, until: float) -> Level | None:
        """Steps of what decodes now, once they have settled: the median of so many. ``until``: not longer than that,
        where a few were seen. None: the batch did not hold.
        """
        batch, mark, started = len(self.live), len(self.steps), self.clock()
        before = dict(self.live)
        most = UNSETTLED_STEPS + 3 * steps

        def enough() -> bool:
            if len(self.live) < batch or self._written(before) >= batch * most:
                return True
            seen = self._pure(mark, batch)
            if len(seen) >= UNSETTLED_STEPS + steps and _spread(seen[UNSETTLED_STEPS:]) < SETTLED_SPREAD:
                return True
            few = self._written(before) >= batch * (1 + LEAST_STEPS)
            return few and self.clock() > until

        await self._until(enough)
        written, took_s = self._written(before), self.clock() - started
        seen = self._pure(mark, batch)
        context = self.steps[-1].context_tokens if self.steps else 0
        if len(seen) < LEAST_STEPS:  # an engine that tells no steps: by the clock
            if self.tells_steps or written < batch or took_s <= 0.0:
                return None
            return Level(batch=batch, context_tokens=0, step_s=took_s * batch / written, steps=written // batch)
        seen = seen[min(UNSETTLED_STEPS, len(seen) - LEAST_STEPS) :]
        return Level(batch=batch, context_tokens=context, step_s=median(seen), spread=_spread(seen), steps=len(seen))

    async def prompt(self, tokens: int, repeats: int) -> PromptTime:
        """Time prompts of about ``tokens`` where nothing else runs; the median of several: the first loads kernels."""
        words, seconds, counted = self._words(tokens), [], 0
        for _ in range(repeats):
            self.rng.shuffle(words)  # as many tokens again, and nothing to be found in a prefix cache
            started = self.clock()
            counted = await self._submit(tokens, max_tokens=1, words=words)
            await self._until(lambda: not self.live)
            seconds.append(self.clock() - started)
        self.tokens_per_word = max(counted, 1) / len(words)
        return PromptTime(tokens=max(counted, 1), seconds=median(seconds))

    def _pure(self, mark: int, batch: int) -> list[float]:
        """Seconds of the steps since ``mark`` that decoded this batch and nothing else."""
        return [one.step_s for one in self.steps[mark:] if not one.prefill_tokens and one.batch == batch]

    def _written(self, before: dict[str, int]) -> int:
        return sum(self.live.get(name, at) - at for name, at in before.items())

    async def wander(
        self, streams: tuple[int, int], prompt_tokens: tuple[int, int], output_tokens: tuple[int, int]
    ) -> None:
        """Fill up to as many streams as are wanted just now, and wait for the engine's next word."""
        least, most = streams
        if not least <= self.wanted <= most or self.rng.random() < WANDER_SHARE:
            self.wanted = self.rng.randint(least, most)
        while len(self.live) < max(self.wanted, 1):
            await self._submit(self._between(*prompt_tokens), self._between(*output_tokens))
        self.changed.clear()
        await self.changed.wait()

    def _between(self, least: int, most: int) -> int:
        """A length from a log-uniform distribution: as many between 4 and 8 as between 64 and 128."""
        return round(math.exp(self.rng.uniform(math.log(least), math.log(most))))

    async def _submit(self, context_tokens: int, max_tokens: int = 0, words: list[str] | None = None) -> int:
        self.count += 1
        request_id = RequestId(f"benchmark-{id(self):x}-{self.count}")
        job = Job(
            request_id=request_id,
            attempt=0,
            model=self.loaded.model,
            quantization=self.loaded.quantization,
            prompt=f"{self.rng.randrange(10**5, 10**6)} " + " ".join(words or self._words(context_tokens)),
            sampling=Sampling(  # drawn, as most users ask: a small model's greedy text repeats itself, and is proposed
                temperature=1.0,
                seed=self.count,
                ignore_eos=True,
                max_tokens=max_tokens or self._max_tokens(context_tokens),
            ),
        )
        self.live[request_id] = 0
        try:
            accepted = await self.engine.submit(job)
        except Refused:
            del self.live[request_id]
            raise
        return accepted.prompt_tokens

    def _words(self, tokens: int) -> list[str]:
        return [self.rng.choice(WORDS) for _ in range(max(2, int(tokens / self.tokens_per_word)))]

    def _max_tokens(self, context_tokens: int) -> int:
        return max(8, min(512, self.loaded.context_tokens - int(1.3 * context_tokens) - 16))

    def abort_all(self) -> None:
        """End what runs."""
        for request_id in list(self.live):
            self.engine.abort(request_id, 0)

    @property
    def tells_steps(self) -> bool:
        """Whether steps of the engine could be timed."""
        return any(one.batch and not one.prefill_tokens for one in self.steps)

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._until(lambda: not self.live)

    # -------------------------------------------------------- result

    def samples(self) -> tuple[StepSample, ...]:
        """Every step, in their order, which tells slow spells from single slow steps."""
        every = max(1, -(-len(self.steps) // MAX_SAMPLES))
        return tuple(one for one in self.steps[::every] if one.batch or one.prefill_tokens)


def _spread(values: list[float]) -> float:
    """Between the quartiles, relative to the median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4)
    return (high - low) / middle if middle > 0 else 0.0
