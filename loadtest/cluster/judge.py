"""Whether every stream said what it should: simulated ones by their prompt, real ones by the same engine's own answer.

A llama.cpp worker's answer is computed anew in this process. vLLM's was asked for before any fault, of the worker
itself when nothing else ran on it: what it says later must be the same, token for token.
"""

import itertools
from pathlib import Path
from typing import Self

import aiohttp

from loadtest.chaos.answers import RealAnswers, simulated_wrong
from loadtest.chaos.pool import REAL
from loadtest.chaos.streams import Stream
from loadtest.chaos.streams import run as run_stream
from loadtest.chaos.waiting import NotReached

AWQ = "smollm2-135m-awq"
AWQ_PROMPT, AWQ_TOKENS = "Name the planets, one after another, and say a word about each.", 48


class Judge:
    """``files``: of the real model, by quantization."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._real = RealAnswers(REAL, files)
        self._awq = ""

    async def __aenter__(self) -> Self:
        await self._real.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._real.__aexit__(None, None, None)

    async def ask_awq(self, url: str) -> None:
        """What vLLM says by itself. Raises NotReached."""
        alone = Stream(model=AWQ, prompt=AWQ_PROMPT, max_tokens=AWQ_TOKENS)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            await run_stream(alone, session, url, lambda: None)
        if not alone.completed:
            raise NotReached(f"vLLM gave no answer: {alone.error}")
        self._awq = alone.text

    async def wrong(self, stream: Stream) -> int:
        """Its tokens that are lost, doubled or otherwise not what they should be."""
        if stream.model == REAL:
            return await self._real.wrong(stream)
        if stream.model == AWQ:
            return awq_wrong(stream, self._awq)
        return simulated_wrong(stream)


def awq_wrong(stream: Stream, expected: str) -> int:
    """Words that differ; of a stream that broke off, what came must be a beginning of the answer."""
    if not stream.completed:
        return 0 if expected.startswith(stream.text) else 1
    pairs = itertools.zip_longest(expected.split(" "), stream.text.split(" "))
    differing: int = sum(one != other for one, other in pairs)
    return max(differing, abs(stream.completion_tokens - stream.max_tokens), int(stream.finish_reason != "length"))
