"""A tiny engine that really runs jobs: it echoes the prompt, one character a step; it can be held or killed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from protos.contract.events import DraftReport
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, FinishReason, RefusalCode, Usage
from protos.contract.worker import Capabilities, Load, ModelInstance
from workers.drafting.link import DraftLink
from workers.engines.base import (
    Counted,
    Embedded,
    EngineFailed,
    LoadError,
    ModelSpec,
    Progress,
    Refused,
    Scored,
    StepResult,
)


@dataclass(slots=True)
class _Running:
    job: Job
    text: str
    at: int = 0


class EchoEngine:
    """Steps only while ``gate`` is set; ``step_s`` 0 means as fast as the loop turns."""

    kind = "echo"
    version = "1"

    def __init__(self, context_tokens: int = 10_000) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False
        self.aborted: list[tuple[str, int]] = []
        self._context_tokens = context_tokens
        self._models: dict[tuple[str, str], ModelInstance] = {}
        self._running: dict[tuple[str, int], _Running] = {}
        self._ends: list[Delta] = []
        self._work = asyncio.Event()
        self.changed = asyncio.Event()  # it made a step, or a job was aborted
        self._dead = ""
        self._sequence = 0

    def kill(self, reason: str) -> None:
        self._dead = reason
        self._work.set()
        self.gate.set()

    async def load(self, spec: ModelSpec, progress: Progress) -> ModelInstance:
        progress(0.5, "half way")
        if "missing" in spec.path:
            raise LoadError(f"{spec.path}: no such file; check the path")
        loaded = ModelInstance(
            model=spec.name,
            quantization=spec.quantization or "none",
            format="echo",
            context_tokens=spec.context_tokens or self._context_tokens,
            slots=spec.slots or 64,
            capabilities=Capabilities(can_score=True, can_load=True, can_embed=True),
        )
        self._models[loaded.model, loaded.quantization] = loaded
        return loaded

    async def unload(self, name: str, quantization: str) -> None:
        self._models.pop((name, quantization), None)
        for key, running in list(self._running.items()):
            if running.job.model == name:
                self.abort(*key)

    @property
    def models(self) -> tuple[ModelInstance, ...]:
        return tuple(self._models.values())

    async def submit(self, job: Job) -> Accepted:
        if self._dead:
            raise EngineFailed(self._dead)
        text = job.messages[-1].text if job.messages else str(job.prompt)
        if len(text) > self._context_tokens:
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"{len(text)} tokens do not fit {self._context_tokens}",
                prompt_tokens=len(text),
                context_tokens=self._context_tokens,
            )
        self._running[job.request_id, job.attempt] = _Running(job=job, text=text)
        self._work.set()
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=len(text))

    def abort(self, request_id: str, attempt: int) -> None:
        running = self._running.pop((request_id, attempt), None)
        if running is not None:
            self.aborted.append((request_id, attempt))
            self._ends.append(self._delta(running, "", FinishReason.ABORTED))
            self._work.set()
            self.changed.set()

    def _delta(self, running: _Running, text: str, end: FinishReason | None) -> Delta:
        done = running.at + len(text)
        usage = Usage(prompt_tokens=len(running.text), completion_tokens=done)
        return Delta(
            request_id=running.job.request_id,
            attempt=running.job.attempt,
            position=running.at,
            text=text,
            token_count=len(text),
            text_tokens=done,
            finish_reason=end,
            usage=usage if end else None,
        )

    async def steps(self) -> AsyncIterator[StepResult]:
        while True:
            await self._work.wait()
            await self.gate.wait()
            if self._dead:
                raise EngineFailed(self._dead)
            deltas, self._ends = self._ends, []
            for key, running in list(self._running.items()):
                text = running.text[running.at : running.at + 1]
                limit = running.job.sampling.max_tokens
                reason = None
                if running.at + 1 >= len(running.text):
                    reason = FinishReason.STOP
                elif limit is not None and running.at + 1 >= limit:
                    reason = FinishReason.LENGTH
                deltas.append(self._delta(running, text, reason))
                running.at += len(text)
                if reason:
                    del self._running[key]
            self._sequence += 1
            self.changed.set()
            if not self._running and not self._ends:
                self._work.clear()
            yield StepResult(deltas=tuple(deltas), load=self.load_figures())
            await asyncio.sleep(0)

    def load_figures(self) -> Load:
        unread = sum(len(one.text) for one in self._running.values() if one.at == 0)
        return Load(running=len(self._running), prefill_tokens_pending=unread, step_sequence=self._sequence)

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        ids = token_ids or tuple(map(ord, text))
        return Scored(token_ids=ids[1:], logprobs=tuple(-float(one % 7) for one in ids[1:]))

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        if self._dead:
            raise EngineFailed(self._dead)
        if any(not one for one in asked.inputs):
            raise Refused(RefusalCode.INVALID, "an input is empty", parameter="input")
        counted(sum(len(one) for one in asked.inputs))
        await self.gate.wait()
        return Embedded(
            vectors=tuple((float(len(one)), 1.0) for one in asked.inputs),
            prompt_tokens=sum(len(one) for one in asked.inputs),
        )

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        if link is not None:
            raise Refused(RefusalCode.UNSUPPORTED, "an echo needs no draft")

    def draft_reports(self) -> tuple[DraftReport, ...]:
        return ()

    async def close(self) -> None:
        self.closed = True
        self._models.clear()
