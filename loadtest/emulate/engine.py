"""An engine on a virtual clock, as fast as the GPU that was recorded: continuous batching with chunked prefill.

The clock moves with the steps and with nothing else, so what is measured here does not depend on the machine that
runs it. Whoever wants to act between two steps finds a few turns of the event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from loadtest.emulate.gpu import LAUNCH_SHARE, Gpu
from protos.contract.ids import AttemptKey, RequestId
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta, FinishReason, Usage
from protos.contract.worker import Load, ModelInstance
from workers.engines.base import ModelSpec, Progress, StepResult
from workers.engines.model_table import ModelTable
from workers.engines.simulated.content import count_prompt

TURNS = 8
"""Of the event loop between two steps: hear of the step, wake, decide, submit."""


@dataclass(slots=True)
class VirtualClock:
    """Seconds that pass with an engine's steps."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@dataclass(slots=True)
class _Running:
    job: Job
    prompt_tokens: int
    slot: int = -1
    prefilled: int = 0
    written: int = 0
    last: FinishReason | None = None

    @property
    def decoding(self) -> bool:
        return self.slot >= 0 and self.prefilled >= self.prompt_tokens

    @property
    def context_tokens(self) -> int:
        return self.prefilled + self.written


@dataclass(slots=True)
class _Held:
    loaded: ModelInstance
    jobs: dict[AttemptKey, _Running] = field(default_factory=dict)


class EmulatedEngine(ModelTable[_Held]):
    """``chunk_tokens``: prompt tokens a step. Models are what the GPU's recording says, whatever is asked for."""

    def __init__(self, gpu: Gpu, clock: VirtualClock, *, chunk_tokens: int = 512) -> None:
        super().__init__()
        self.kind, self.version = gpu.recording.engine, gpu.recording.engine_version
        self._gpu = gpu
        self._clock = clock
        self._chunk = chunk_tokens
        self._work = asyncio.Event()
        self._ended: list[Delta] = []
        self._steps = 0
        self._prefill_progress = 0
        self._owed_s = 0.0
        self._last = (0.0, 0, 0, 0)

    async def start_model(self, spec: ModelSpec, progress: Progress) -> _Held:
        """At once."""
        progress(1.0, "emulated")
        return _Held(self._gpu.recording.instance(slots=spec.slots or 64, context_tokens=spec.context_tokens or 8192))

    async def stop_model(self, held: _Held, reason: str) -> None:
        """End what runs."""
        for one in list(held.jobs.values()):
            self._end(held, one, FinishReason.ABORTED, reason)

    async def submit(self, job: Job) -> Accepted:
        """Count and queue."""
        held = self.find(job.model, job.quantization)
        running = _Running(job, count_prompt(job))
        held.jobs[job.request_id, job.attempt] = running
        self._work.set()
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=running.prompt_tokens)

    def abort(self, request_id: str, attempt: int) -> None:
        """End a job."""
        for held in self.held():
            running = held.jobs.get((RequestId(request_id), attempt))
            if running is not None:
                self._end(held, running, FinishReason.ABORTED)

    async def steps(self) -> AsyncIterator[StepResult]:
        """One result a step."""
        while True:
            await self._work.wait()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            at = self._clock.now
            for held in self.held():
                at = self._step(held) if held.jobs else at
            deltas, self._ended = self._ended, []
            if not any(held.jobs for held in self.held()):
                self._work.clear()
            yield StepResult(deltas=tuple(deltas), load=self.load_figures(), at=at)

    def _step(self, held: _Held) -> float:
        """One step of one model; when its numbers were there."""
        free = sorted(set(range(held.loaded.slots)) - {one.slot for one in held.jobs.values()})
        for one in [one for one in held.jobs.values() if one.slot < 0][: len(free)]:
            one.slot = free.pop(0)
        decoding = [one for one in held.jobs.values() if one.decoding]
        room, prefills, finished = self._chunk, 0, 0
        for one in held.jobs.values():
            if one.slot >= 0 and not one.decoding and room:
                count = min(room, one.prompt_tokens - one.prefilled)
                one.prefilled += count
                room -= count
                prefills += 1
                finished += one.decoding
        prompt_tokens = self._chunk - room
        context = sum(one.context_tokens for one in decoding)
        took = self._gpu.step_s([one.slot for one in decoding], context, prompt_tokens) + self._owed_s
        self._owed_s = 0.0
        if not decoding and not finished and self.kind == "llama.cpp":
            self._owed_s, took = (1.0 - LAUNCH_SHARE) * took, LAUNCH_SHARE * took
        self._clock.now += took
        self._steps += 1
        self._prefill_progress += prompt_tokens
        self._last = (self._gpu.told_s(len(decoding), took), len(decoding), prompt_tokens, prefills)
        for one in [one for one in held.jobs.values() if one.decoding]:
            self._write(held, one)
        return self._clock.now

    def _write(self, held: _Held, one: _Running) -> None:
        one.written += 1
        most = one.job.sampling.max_tokens or held.loaded.context_tokens
        full = one.context_tokens >= held.loaded.context_tokens
        if one.written >= most or full:
            self._end(held, one, FinishReason.LENGTH)
        else:
            self._ended.append(self._delta(one, 1, None))

    def _end(self, held: _Held, one: _Running, reason: FinishReason, error: str = "") -> None:
        del held.jobs[one.job.request_id, one.job.attempt]
        self._ended.append(self._delta(one, int(reason is FinishReason.LENGTH), reason, error))
        self._work.set()

    def _delta(self, one: _Running, tokens: int, reason: FinishReason | None, error: str = "") -> Delta:
        usage = Usage(prompt_tokens=one.prompt_tokens, completion_tokens=one.written) if reason is not None else None
        return Delta(
            request_id=one.job.request_id,
            attempt=one.job.attempt,
            position=one.written - tokens,
            text=" go" * tokens,
            token_count=tokens,
            finish_reason=reason,
            usage=usage,
            error=error,
        )

    def load_figures(self) -> Load:
        """The load now; the last step's time as the engine tells it."""
        jobs = [one for held in self.held() for one in held.jobs.values()]
        told_s, batch, prompt_tokens, prefills = self._last
        return Load(
            running=sum(one.slot >= 0 for one in jobs),
            waiting=sum(one.slot < 0 for one in jobs),
            prefill_tokens_pending=sum(one.prompt_tokens - one.prefilled for one in jobs),
            context_tokens=sum(one.context_tokens for one in jobs),
            step_sequence=self._steps,
            prefill_progress=self._prefill_progress,
            last_step_s=told_s,
            last_step_batch=batch,
            last_step_prefill_tokens=prompt_tokens,
            last_step_prefills=prefills,
        )
