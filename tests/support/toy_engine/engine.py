"""A small engine that keeps the whole contract: letters of an alphabet, drawn by prompt and position."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from protos.contract.ids import AttemptKey, RequestId
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta, FinishReason, RefusalCode, Usage
from protos.contract.worker import Load, ModelInstance
from tests.support.toy_engine.spec import Toy, alphabet_in
from workers.engines.base import ModelSpec, Progress, Refused, StepResult
from workers.engines.detokenizer import Detokenizer
from workers.engines.model_table import ModelTable


@dataclass(slots=True)
class Alphabet:
    """A loaded model."""

    loaded: ModelInstance
    letters: str


@dataclass(slots=True)
class Running:
    """A job from its submission to its final delta."""

    job: Job
    model: Alphabet
    prompt: bytes
    prompt_tokens: int
    limit: int
    position: int = 0
    detokenizer: Detokenizer = field(init=False)

    def __post_init__(self) -> None:
        self.detokenizer = Detokenizer(self.job.sampling.stop)

    def next_letter(self) -> str:
        at = zlib.crc32(self.prompt + self.position.to_bytes(4, "big"))
        return self.model.letters[at % len(self.model.letters)]

    def step(self) -> Delta:
        text = self.detokenizer.feed(self.next_letter().encode())
        if self.detokenizer.stopped:
            return self.delta(text, 1, FinishReason.STOP)
        return self.delta(text, 1, FinishReason.LENGTH if self.position + 1 >= self.limit else None)

    def delta(self, text: str, tokens: int, end: FinishReason | None) -> Delta:
        at, self.position = self.position, self.position + tokens
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.position)
        return Delta(
            request_id=self.job.request_id,
            attempt=self.job.attempt,
            position=at,
            text=text + (self.detokenizer.flush() if end else ""),
            token_count=tokens,
            text_tokens=self.detokenizer.text_tokens,
            finish_reason=end,
            usage=usage if end else None,
        )


class ToyEngine(ModelTable[Alphabet]):
    """Every step gives each running job one letter."""

    kind = Toy.name
    version = "1"

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[AttemptKey, Running] = {}
        self._ended: list[Delta] = []
        self._work = asyncio.Event()
        self._steps = 0
        self._prefilled = 0

    async def start_model(self, spec: ModelSpec, progress: Progress) -> Alphabet:
        facts = Toy().read_model(Path(spec.path))
        progress(1.0, "read")
        loaded = replace(
            facts,
            model=spec.name,
            context_tokens=spec.context_tokens or facts.context_tokens,
            slots=spec.slots or facts.slots,
        )
        return Alphabet(loaded, alphabet_in(Path(spec.path)))

    async def stop_model(self, held: Alphabet, reason: str) -> None:
        for one in [one for one in self._jobs.values() if one.model is held]:
            self.abort(one.job.request_id, one.job.attempt)

    async def submit(self, job: Job) -> Accepted:
        model = self.find(job.model, job.quantization)
        text = "\n".join(one.text for one in job.messages) or str(job.prompt)
        words = len(text.split())
        room = model.loaded.context_tokens - words
        if room < 1:
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"{words} words do not fit",
                prompt_tokens=words,
                context_tokens=model.loaded.context_tokens,
            )
        limit = min(room, job.sampling.max_tokens or room)
        self._jobs[job.request_id, job.attempt] = Running(job, model, text.encode(), words, limit)
        self._work.set()
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=words)

    def abort(self, request_id: RequestId, attempt: int) -> None:
        running = self._jobs.pop((request_id, attempt), None)
        if running is not None:
            self._ended.append(running.delta("", 0, FinishReason.ABORTED))
            self._work.set()

    async def steps(self) -> AsyncIterator[StepResult]:
        while True:
            await self._work.wait()
            deltas, self._ended = self._ended, []
            for running in self._batch():
                self._prefilled += 0 if running.position else running.prompt_tokens
                deltas.append(running.step())
                if deltas[-1].finish_reason is not None:
                    del self._jobs[running.job.request_id, running.job.attempt]
            self._steps += 1
            if not self._jobs:
                self._work.clear()
            yield StepResult(deltas=tuple(deltas), load=self.load_figures())
            await asyncio.sleep(0)

    def _batch(self) -> list[Running]:
        batch: list[Running] = []
        for model in self.held():
            batch += [one for one in self._jobs.values() if one.model is model][: model.loaded.slots]
        return batch

    def load_figures(self) -> Load:
        running = len(self._batch())
        return Load(
            running=running,
            waiting=len(self._jobs) - running,
            step_sequence=self._steps,
            prefill_progress=self._prefilled,
        )
