"""What the join benchmark measures with: keeps a number of streams going in an engine and notes every step."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.contract.ids import RequestId
from protos.contract.request import Job, Sampling
from protos.contract.stream import Delta
from protos.contract.worker import ModelInstance
from workers.benchmark.measured_speed import StepSample
from workers.engines.base import Engine, Refused, StepResult

WORDS = [
    "river", "stone", "window", "garden", "letter", "winter", "market", "bridge", "candle", "forest",
    "silver", "morning", "harbour", "paper", "mountain", "kitchen", "summer", "travel", "engine", "copper",
    "island", "shadow", "orange", "planet", "velvet", "thunder", "meadow", "cotton", "mirror", "lantern",
]  # fmt: skip
"""Prompts are random words of these, different at every run: nothing is found in a prefix cache."""

TOKENS_PER_WORD = 1.3
"""Rough, to aim at a context length; what is recorded are the engine's own counts."""

MAX_SAMPLES = 1024

WANDER_SHARE = 0.1
"""Of steps after which another number of streams is wanted: less often than sequences end, so that gaps open."""


@dataclass(slots=True)
class Probe:
    """Keeps a number of streams going and notes every step."""

    engine: Engine
    loaded: ModelInstance
    rng: random.Random = field(default_factory=random.Random)
    live: dict[str, int] = field(default_factory=dict)  # request -> tokens it has written
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    steps: list[StepSample] = field(default_factory=list)
    levels: list[StepSample] = field(default_factory=list)  # by the clock, over a whole level
    count: int = 0
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

    async def _submit(self, context_tokens: int, max_tokens: int = 0) -> int:
        self.count += 1
        request_id = RequestId(f"benchmark-{id(self):x}-{self.count}")
        words = [self.rng.choice(WORDS) for _ in range(max(2, int(context_tokens / TOKENS_PER_WORD)))]
        job = Job(
            request_id=request_id,
            attempt=0,
            model=self.loaded.model,
            quantization=self.loaded.quantization,
            prompt=f"{self.rng.randrange(10**6)} " + " ".join(words),
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
        context = max((one.context_tokens for one in self.steps[mark:]), default=0)
        self.levels.append(StepSample(batch=batch, context_tokens=context, prefill_tokens=0, step_s=cycle_s))

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
        """Every step; whole levels where the engine tells no steps."""
        if not self.tells_steps:
            return tuple(self.levels)
        every = max(1, -(-len(self.steps) // MAX_SAMPLES))
        # In their order, which tells slow spells from single slow steps.
        return tuple(one for one in self.steps[::every] if one.batch or one.prefill_tokens)
