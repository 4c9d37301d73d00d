"""The course of one measurement: batches, bends, prompts, long contexts, traffic, and some batches once more.

Every shape settles before it counts: its first steps capture graphs and load kernels. Batches grow fourfold up to the
slots, for nothing is worse than a guess beyond the last; then the middle of what may bend most is looked at, while time
is left for it.
"""

from collections.abc import Callable
from dataclasses import replace

import structlog

from protos.contract.worker import ModelInstance
from workers.benchmark.curve_fit import next_batch
from workers.benchmark.measured_speed import Findings, Level, PromptTime
from workers.benchmark.plan import Plan
from workers.benchmark.probe import Probe

STEEP = 4
"""Times as many streams at each batch of the first ascent."""

log = structlog.get_logger(__name__)

FITS = 0.75
"""Of the context, what a prompt is made for: how many tokens its words have is known afterwards."""

REPEATED_ABOVE = 0.1
"""Where batches that are measured again lie from the curve than this, all are, once; of each the lower counts."""

REPEATS = 3
"""Of a prompt, where time allows: the first of a length loads kernels."""

STREAM_TOKENS = 64
"""Room a stream needs beside its prompt while others are added."""

CHECKED = 3
"""Batches that are measured once more at the end."""


class Course:
    """One run. ``clock`` counts seconds, from ``started`` on."""

    def __init__(self, probe: Probe, loaded: ModelInstance, plan: Plan, clock: Callable[[], float]) -> None:
        self._probe = probe
        self._loaded = loaded
        self._plan = plan
        self._clock = clock
        self._started = clock()
        self._levels: list[Level] = []
        self._context = min(plan.context_tokens, loaded.context_tokens // 2)
        self._most = self._most_batch(self._context)

    async def run(self, misfit: Callable[[Findings], float]) -> Findings:
        """Everything, in turn. ``misfit``: how far batches measured again lie from the rest; where that is too far and
        time is left, all are measured once more.
        """
        if self._context < 8:
            return Findings()
        plan = self._plan
        await self._climb(self._until(plan.climb_until))
        await self._look_at_bends(self._until(plan.bends_until))
        await self._clear()
        prompts = await self._prompts(self._until(plan.prompts_until))
        long = await self._long_contexts(prompts, self._until(plan.long_until))
        found = await self._checked(Findings(long=long, prompts=prompts), self._until(plan.again_until))
        if misfit(found) > REPEATED_ABOVE and self._clock() < self._until(plan.again_until):
            log.info("benchmark.repeated", model=self._loaded.model, fit_error=round(misfit(found), 3))
            await self._climb(self._until(1.0))
            await self._clear()
            found = await self._checked(found, self._until(1.0))
        if self._probe.tells_steps:  # else traffic would teach nothing
            await self._traffic()
        return replace(found, samples=self._probe.samples())

    async def _checked(self, found: Findings, until: float) -> Findings:
        """With all batches so far, and a few of them again."""
        again = await self._again(until)
        return replace(found, samples=self._probe.samples(), levels=tuple(self._levels), again=again)

    def _until(self, share: float) -> float:
        return self._started + share * self._plan.budget_s

    def _most_batch(self, context_tokens: int) -> int:
        """Streams of so many tokens that fit slots and KV cache."""
        capacity = self._loaded.kv_capacity_tokens or 1 << 60
        return max(min(self._loaded.slots, self._plan.most_batch, capacity // (context_tokens + STREAM_TOKENS)), 1)

    # -------------------------------------------------------- decode

    async def _climb(self, until: float) -> None:
        """1, 4, 16, … and all of them; two at least, for one says nothing of what a batch costs."""
        batch = 1
        while True:
            await self._level(batch)
            enough = until if len(self._levels) > 1 else self._until(1.0)
            if batch >= self._most or self._clock() > enough:
                return
            batch = min(STEEP * batch, self._most)

    async def _look_at_bends(self, until: float) -> None:
        while self._clock() < until:
            batch = next_batch(self._levels, self._most)
            if not batch:
                return
            seen = len(self._levels)
            await self._level(batch)
            if len(self._levels) == seen:
                return

    async def _level(self, batch: int) -> Level | None:
        await self._probe.grow(batch, self._context)
        level = await self._settle()
        if level is not None:
            self._levels.append(level)
        return level

    async def _settle(self) -> Level | None:
        return await self._probe.settle(self._plan.steps, self._clock() + self._plan.level * self._plan.budget_s)

    async def _again(self, until: float) -> tuple[Level, ...]:
        """A few of the batches, spread over the curve; one in any case, for the curve is held against it."""
        batches = sorted({one.batch for one in self._levels})
        found: list[Level] = []
        chosen = (
            [batches[round(place * (len(batches) - 1) / (CHECKED - 1))] for place in range(CHECKED)] if batches else []
        )
        for batch in sorted(set(chosen)):
            if found and self._clock() > until:
                break
            await self._probe.grow(batch, self._context)
            level = await self._settle()
            if level is not None:
                found.append(level)
        await self._clear()
        return tuple(found)

    async def _long_contexts(self, prompts: tuple[PromptTime, ...], until: float) -> tuple[Level, ...]:
        """As long and as many as are prefilled in their share of the time."""
        if not prompts or not self._probe.tells_steps or self._clock() > until:
            return ()
        longest = max(prompts, key=lambda one: one.tokens)
        affordable = int(self._plan.prompt * self._plan.budget_s * longest.tokens / longest.seconds)
        context = min(affordable, self._loaded.context_tokens // 2)
        batch = max((one.batch for one in self._levels if one.batch * context <= affordable), default=0)
        batch = min(batch, self._most_batch(context))
        if batch not in {one.batch for one in self._levels} or context < 4 * self._context:
            return ()
        await self._probe.grow(batch, context)
        level = await self._settle()
        await self._clear()
        return (level,) if level is not None else ()

    # -------------------------------------------------------- prefill

    async def _prompts(self, until: float) -> tuple[PromptTime, ...]:
        """From short to long, as far as the context reaches and the next would not take too long."""
        found: list[PromptTime] = []
        most_s = self._plan.prompt * self._plan.budget_s
        longest = int(FITS * self._loaded.context_tokens)
        shorter = [one for one in self._plan.prompts if one < longest / 1.5]
        for tokens in (*shorter, min(longest, self._plan.prompts[-1])):
            expected_s = found[-1].seconds * tokens / found[-1].tokens if found else 0.0
            if found and (expected_s > most_s * (2 if len(found) == 1 else 1) or self._clock() > until):
                break
            found.append(await self._probe.prompt(tokens, REPEATS if REPEATS * expected_s < most_s else 1))
        return tuple(found)

    # -------------------------------------------------------- traffic

    async def _traffic(self) -> None:
        """Requests that come and go, from few streams to many."""
        traffic = self._plan.traffic
        shortest, longest = traffic.prompt_tokens
        longest = min(longest, (self._loaded.context_tokens - traffic.output_tokens[1]) // 2)
        for level in traffic.levels:
            if level.most > self._loaded.slots or longest < shortest or self._clock() > self._until(1.0):
                break
            until = self._clock() + level.seconds
            while self._clock() < until:
                await self._probe.wander((level.least, level.most), (shortest, longest), traffic.output_tokens)
        await self._clear()

    async def _clear(self) -> None:
        self._probe.abort_all()
        await self._probe.idle()
