"""What every stream should have said, token by token.

A simulated token is a function of prompt and position. A real model's answer is its quantization's greedy one, and
where a stream moved, what the next quantization says from exactly there: both are computed anew, by the same engine
in this process, one stream's segments after another.
"""

import asyncio
import itertools
from pathlib import Path
from typing import Self

from loadtest.chaos.streams import Stream
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, ContinueFrom, Job, Sampling
from protos.contract.stream import Delta
from protos.contract.worker import ModelInstance
from workers.engines.base import ModelSpec, StepResult
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.engines.simulated import content
from workers.engines.step_reader import StepReader

SLOTS = 8
CONTEXT_TOKENS = 1024
ANSWER_WITHIN_S = 300.0
EXACT: dict[str, str | int | float | bool] = {"exact": True, "threads": 1}
"""So that an answer is the same whatever runs beside it and wherever it goes on: the pool's workers have it too."""


def simulated_answer(prompt: str, tokens: int) -> list[str]:
    """The tokens that every simulated worker answers to a chat of this one message."""
    key = content.prompt_key((ChatMessage(role="user", content=prompt),))
    return [content.token_text(content.token_at(key, position)) for position in range(tokens)]


def simulated_wrong(stream: Stream) -> int:
    """Tokens of a simulated stream that are lost, doubled or otherwise not what they should be."""
    return wrong_tokens(stream, simulated_answer(stream.prompt, stream.max_tokens), content.tokenize(stream.text))


def wrong_tokens(stream: Stream, expected: list[str], got: list[str]) -> int:
    """Positions that differ. Of a stream that did not complete, what came must be a beginning of the answer."""
    if not stream.completed:
        return _differing(expected[: len(got)], got)
    uncounted = abs(stream.completion_tokens - len(expected))
    return max(_differing(expected, got), uncounted, int(stream.finish_reason != "length"))


def _differing(expected: list[str], got: list[str]) -> int:
    pairs = itertools.zip_longest(expected, got)
    return sum(one != other for one, other in pairs)


class RealAnswers:
    """One llama.cpp engine with every quantization loaded; answers are kept."""

    def __init__(self, name: str, files: dict[str, Path]) -> None:
        self._name = name
        self._files = files
        self._engine = LlamaCppEngine()
        self._hub = StepReader(self._engine, self._fail)
        self._numbers = itertools.count()
        self._jobs: dict[str, asyncio.Queue[Delta | None]] = {}
        self._kept: dict[tuple[str, str, tuple[int, ...], int], tuple[str, tuple[int, ...]]] = {}
        self._room = asyncio.Semaphore(SLOTS)
        self.loaded: dict[str, ModelInstance] = {}

    async def __aenter__(self) -> Self:
        self._hub.start()
        self._hub.add(self._hear)
        for quantization, path in self._files.items():
            spec = ModelSpec(name=self._name, path=str(path), context_tokens=CONTEXT_TOKENS, slots=SLOTS, options=EXACT)
            self.loaded[quantization] = await self._engine.load(spec, lambda _fraction, _message: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hub.stop()
        await self._engine.close()

    async def wrong(self, stream: Stream) -> int:
        """Tokens of a real stream that are not what its quantizations say greedily, segment by segment."""
        text, quantization = "", stream.quantization
        ids: tuple[int, ...] = ()
        if not quantization:
            return 0  # it was never accepted: nothing was said
        for move in stream.moves:
            said, new = await self._go_on(quantization, stream.prompt, text, ids, move["at_token"] - len(ids))
            text, ids, quantization = text + said, ids + new, move["to_quantization"]
        said, new = await self._go_on(quantization, stream.prompt, text, ids, stream.max_tokens - len(ids))
        expected = text + said
        if not stream.completed:
            return 0 if expected.startswith(stream.text) else _differing(list(expected), list(stream.text))
        uncounted = abs(stream.completion_tokens - stream.max_tokens)
        differing = 0 if stream.text == expected else max(_differing(expected.split(" "), stream.text.split(" ")), 1)
        return max(differing, uncounted, int(stream.finish_reason != "length"))

    async def _go_on(
        self, quantization: str, prompt: str, text: str, ids: tuple[int, ...], tokens: int
    ) -> tuple[str, tuple[int, ...]]:
        """Greedy text and ids of the next ``tokens`` tokens after ``ids``."""
        if tokens <= 0:
            return "", ()
        key = (quantization, prompt, ids, tokens)
        if key not in self._kept:
            async with self._room, asyncio.timeout(ANSWER_WITHIN_S):
                self._kept[key] = await self._run(self._job(quantization, prompt, text, ids, tokens))
        return self._kept[key]

    def _job(self, quantization: str, prompt: str, text: str, ids: tuple[int, ...], tokens: int) -> Job:
        before = None
        if ids:
            before = ContinueFrom(
                text=text,
                token_ids=ids,
                tokenizer_fingerprint=self.loaded[quantization].tokenizer_fingerprint,
                output_tokens=len(ids),
            )
        return Job(
            request_id=RequestId(f"reference-{next(self._numbers)}"),
            attempt=1,
            model=self._name,
            quantization=quantization,
            messages=(ChatMessage(role="user", content=prompt),),
            sampling=Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True),
            continue_from=before,
            return_token_ids=True,
        )

    async def _run(self, job: Job) -> tuple[str, tuple[int, ...]]:
        deltas = self._jobs[job.request_id] = asyncio.Queue()
        texts: list[str] = []
        ids: list[int] = []
        try:
            await self._engine.submit(job)
            while True:
                delta = await deltas.get()
                if delta is None:
                    raise RuntimeError("the reference engine died")
                texts.append(delta.text)
                ids.extend(delta.token_ids)
                if delta.finish_reason is not None:
                    return "".join(texts), tuple(ids)
        finally:
            del self._jobs[job.request_id]

    def _hear(self, result: StepResult) -> None:
        for delta in result.deltas:
            waiting = self._jobs.get(delta.request_id)
            if waiting is not None:
                waiting.put_nowait(delta)

    def _fail(self, reason: str) -> None:
        del reason
        for waiting in self._jobs.values():
            waiting.put_nowait(None)
