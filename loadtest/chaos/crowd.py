"""The clients of one scenario, and what they see of the workers: a fault strikes by that, not by the clock.

The header of an answer names the worker that began it. So the clients know who is in the middle of an answer, who
waits for its first word, and where newcomers go.
"""

import asyncio
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import aiohttp

from loadtest.chaos.moment import NEWCOMER_TOKENS
from loadtest.chaos.pool import REAL, SIMULATED
from loadtest.chaos.streams import Stream
from loadtest.chaos.streams import run as run_stream
from loadtest.chaos.waiting import NotReached, not_reached
from workers.engines.simulated.content import WORDS

SIMULATED_TOKENS = 160
"""At least 14 s: what a simulated step takes is in its profile (``pool.py``), however fast this machine is."""

REAL_STREAMS = 12
REAL_LASTS_S = 8.0
REAL_TOKENS_LEAST, REAL_TOKENS_MOST = 64, 384
"""A real answer is as long as this machine writes in ``REAL_LASTS_S`` while as many are written as there will be."""

WARM_TOKENS, WARM_STREAMS = 24, 96

NEWCOMER_GAP_S, NEWCOMER_WORDS = 0.1, 12
REAL_NEWCOMER_EVERY = 10
HELD_WORDS = 1500
"""Less than a step's chunk: those who come after the strike, before anybody else holds it, do not pile up."""


def real_tokens(gap_s: float) -> int:
    """Length of a real answer, in tokens, where one takes ``gap_s``."""
    return min(max(math.ceil(REAL_LASTS_S / gap_s), REAL_TOKENS_LEAST), REAL_TOKENS_MOST)


class Crowd:
    """Asks, and keeps every stream. Between ``async with`` and its end; what still runs is then cancelled."""

    def __init__(self, session: aiohttp.ClientSession, url: str, dice: random.Random) -> None:
        self.streams: list[Stream] = []
        self._session = session
        self._url = url
        self._dice = dice
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()
        self._newcomers: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.no_more_newcomers()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __str__(self) -> str:
        waiting = sum(not (one.worker or one.over) for one in self.streams)
        errors = [one.error for one in self.streams if one.error]
        return f"{waiting} of {len(self.streams)} unanswered, {len(errors)} failed {errors[:1] or ''}".rstrip()

    async def until(self, reached: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
        """Look whenever a client hears something. Raises NotReached with ``what()``."""
        try:
            async with asyncio.timeout(within_s):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise not_reached(what(), within_s) from None

    # -- asking ------------------------------------------------------------------------------------------

    def ask(self, streams: Sequence[Stream]) -> None:
        """All at once; they count from now on."""
        self.streams.extend(streams)
        for stream in streams:
            self._start(stream)

    async def answers(self, streams: Sequence[Stream]) -> None:
        """All at once, to their ends; beside what counts."""
        await asyncio.gather(*(self._start(stream) for stream in streams))

    async def end(self) -> None:
        """Every client has its answer, or knows that it gets none."""
        self.no_more_newcomers()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def streams_to_strike(self, count: int, words: int, tokens_of_real: int) -> list[Stream]:
        """``tokens_of_real`` 0: simulated ones alone."""
        real = REAL_STREAMS if tokens_of_real else 0
        return [
            Stream(REAL, self._prompt(min(words, 200)), tokens_of_real)
            if number < real
            else Stream(SIMULATED, self._prompt(words), SIMULATED_TOKENS)
            for number in range(count)
        ]

    async def warm_up(self, words: int, *, real: bool) -> float:
        """As many answers of each kind as there will be, but short, so that the router learns what its workers do: with
        nothing to go by it may send half of all streams to one of them. Returns seconds between a real answer's tokens.
        """
        count = REAL_STREAMS if real else 0
        streams = [Stream(REAL, self._prompt(min(words, 200)), WARM_TOKENS) for _ in range(count)]
        simulated = [Stream(SIMULATED, self._prompt(words), WARM_TOKENS) for _ in range(WARM_STREAMS)]
        await self.answers([*streams, *simulated])
        gaps = [one.gap_s for one in streams if one.completed and one.gap_s > 0.0]
        if real and not gaps:
            raise NotReached(f"no answer of the real model: {streams[0].error}")
        return statistics.median(gaps) if real else 0.0

    # -- newcomers ---------------------------------------------------------------------------------------

    async def held(self) -> str:
        """A text in the prefix cache of one simulated worker: those who begin with it go to one worker, as long as the
        router thinks that they may. Otherwise newcomers might not go to the victim anyway, and that they stopped would
        say nothing.
        """
        stream = Stream(SIMULATED, self._prompt(HELD_WORDS), NEWCOMER_TOKENS)
        await self.answers([stream])
        return stream.prompt

    def newcomers_come(self, held: str) -> None:
        """From now on, ten a second, whether or not the earlier ones are answered; every tenth is for the real model.

        ``held``: how those for the simulated one begin.
        """
        self.no_more_newcomers()
        self._newcomers = asyncio.create_task(self._ask_newcomers(held))

    def no_more_newcomers(self) -> None:
        """Those that were sent are still answered."""
        if self._newcomers is not None:
            self._newcomers.cancel()

    def newcomers(self, count: int, held: str = "") -> list[Stream]:
        """So many of them."""
        made = self._newcomer(held)
        return [next(made) for _ in range(count)]

    async def _ask_newcomers(self, held: str) -> None:
        for stream in self._newcomer(held):
            self.ask([stream])
            await asyncio.sleep(NEWCOMER_GAP_S)

    def _newcomer(self, held: str) -> Iterator[Stream]:
        number = 0
        while True:
            number += 1
            prompt = self._prompt(NEWCOMER_WORDS)
            if number % REAL_NEWCOMER_EVERY == 0:
                yield Stream(REAL, prompt, NEWCOMER_TOKENS)
            else:
                yield Stream(SIMULATED, f"{held} {prompt}".strip(), NEWCOMER_TOKENS)

    def _start(self, stream: Stream) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.create_task(
            run_stream(stream, self._session, self._url, self._changed.set)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _prompt(self, words: int) -> str:
        return f"Story {self._dice.randrange(10**9)}: write about " + " ".join(self._dice.choices(WORDS, k=words))
