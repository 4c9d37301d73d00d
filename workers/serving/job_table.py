"""Jobs between sessions and engine: who asked, what is running, where its output goes, when its time is up."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import structlog

from protos.contract.events import WorkerEvent
from protos.contract.ids import AttemptKey, RequestId
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned, Usage
from protos.contract.validation import MAX_MODELS
from protos.contract.worker import Load
from workers.engines.base import Engine, EngineError, EngineFailed, Refused, StepResult
from workers.serving.precondition import violation

log = structlog.get_logger(__name__)

MAX_JOBS = 2048
"""Jobs a worker holds, running and waiting; beyond it answers BUSY."""

MAX_EARLY_DELTAS = 4096
"""Deltas kept for a job whose acceptance is still on its way; engines answer within a step or two."""


class Outlet(Protocol):
    """Where a job's events go: the session it came from."""

    def put_event(self, event: WorkerEvent) -> None:
        """Queue an event."""
        ...

    def put_delta(self, delta: Delta) -> None:
        """Queue a delta."""
        ...


@dataclass(slots=True)
class _Record:
    """One job, from Generate to its last delta."""

    job: Job
    outlet: Outlet
    expected_prefill_tokens: int = 0  # by the router's estimate; the engine's count replaces it
    accepted: Accepted | None = None
    early: list[Delta] = field(default_factory=list)
    position: int = 0
    deadline: asyncio.TimerHandle | None = None
    overdue: bool = False
    aborted: bool = False  # before the engine had it
    submission: asyncio.Task[None] | None = None


class JobTable:
    """Owns every job of this worker. ``closed_because`` names why no work is taken now; empty: it is.

    ``why_not_ready`` says why a model (name, quantization) takes no work; empty: it does. There is no engine before
    ``attach``, nor after one died until the next is attached.
    """

    def __init__(self, *, why_not_ready: Callable[[str, str], str], max_jobs: int = MAX_JOBS) -> None:
        self._engine: Engine | None = None
        self._why_not_ready = why_not_ready
        self._max_jobs = max_jobs
        self._records: dict[AttemptKey, _Record] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._left = asyncio.Event()  # some job ended
        self._used_at: dict[tuple[str, str], float] = {}  # by model and quantization: when a job came or ended last
        self.closed_because = ""

    def __len__(self) -> int:
        """Jobs held."""
        return len(self._records)

    def __repr__(self) -> str:
        accepted = sum(one.accepted is not None for one in self._records.values())
        return f"<JobTable: {len(self._records)} jobs, {accepted} accepted; {self.closed_because or 'takes work'}>"

    def attach(self, engine: Engine) -> None:
        """Use this engine from now on."""
        self._engine = engine

    def load_figures(self) -> Load:
        """The engine's load now, and what it has not counted yet by the routers' estimates; zeros without an engine."""
        if self._engine is None:
            return Load()
        figures = self._engine.load_figures()
        unseen = len(self._records) - figures.running - figures.waiting
        if unseen <= 0:
            return figures
        uncounted = sum(one.expected_prefill_tokens for one in self._records.values() if one.accepted is None)
        return replace(
            figures,
            waiting=figures.waiting + unseen,
            prefill_tokens_pending=figures.prefill_tokens_pending + uncounted,
        )

    # ------------------------------------------------------------ commands

    def generate(
        self, outlet: Outlet, job: Job, *, max_queued_prefill_tokens: int = 0, expected_prefill_tokens: int = 0
    ) -> None:
        """Take a job, or refuse it with the reason. Returns at once.

        ``max_queued_prefill_tokens``: the router's precondition, 0 for none. ``expected_prefill_tokens``: what the job
        adds to them, until the engine has counted.
        """
        key = (job.request_id, job.attempt)
        refusal = self._refusal(key, job) or self._stale(key, max_queued_prefill_tokens)
        if refusal is not None:
            outlet.put_event(refusal)
            return
        record = _Record(job=job, outlet=outlet, expected_prefill_tokens=expected_prefill_tokens)
        self._records[key] = record
        self._used(job)
        self._empty.clear()
        if job.deadline_s > 0:
            record.deadline = asyncio.get_running_loop().call_later(job.deadline_s, self._expire, key)
        record.submission = asyncio.create_task(self._submit(key, record), name=f"submit {job.request_id}")

    def abort(self, request_id: RequestId, attempt: int) -> None:
        """Stop a job; its last delta says so. Unknown: ignored."""
        key = (request_id, attempt)
        record = self._records.get(key)
        if self._engine is None or record is None:
            return
        if record.job.embedding is not None:
            self._cancel(record)
            self._forward(key, record, _last_words(key, record, FinishReason.ABORTED))
            return
        if record.accepted is None:  # the engine may not know it yet: it is aborted once it does
            record.aborted = True
        self._engine.abort(request_id, attempt)

    def _refusal(self, key: AttemptKey, job: Job) -> Refusal | None:
        if self.closed_because:
            return _refused(key, RefusalCode.DRAINING, self.closed_because)
        if self._engine is None:
            return _refused(key, RefusalCode.ENGINE_FAILED, "the engine died and is being started again")
        if key in self._records:
            return _refused(key, RefusalCode.INVALID, f"attempt {job.attempt} of this request already runs here")
        if len(self._records) >= self._max_jobs:
            return _refused(key, RefusalCode.BUSY, f"{self._max_jobs} requests are here already")
        if why := self._why_not_ready(job.model, job.quantization):
            return _refused(key, RefusalCode.MODEL_NOT_LOADED, why)
        return None

    def _stale(self, key: AttemptKey, max_queued_prefill_tokens: int) -> Refusal | None:
        if max_queued_prefill_tokens > 0 and (why := violation(max_queued_prefill_tokens, self.load_figures())):
            return _refused(key, RefusalCode.CONFLICT, why)
        return None

    async def _submit(self, key: AttemptKey, record: _Record) -> None:
        assert self._engine is not None
        log.debug("job.started", request_id=key[0], attempt=key[1])
        engine = self._engine
        try:
            if record.job.embedding is not None:
                await self._embed(engine, key, record)
                return
            accepted = await engine.submit(record.job)
        except Refused as refused:
            self._refuse(
                key,
                record,
                Refusal(
                    request_id=key[0],
                    attempt=key[1],
                    code=refused.code,
                    message=refused.message,
                    prompt_tokens=refused.prompt_tokens,
                    max_tokens=refused.max_tokens,
                    context_tokens=refused.context_tokens,
                    parameter=refused.parameter,
                ),
            )
            return
        except EngineFailed as failed:
            self._refuse(key, record, _refused(key, RefusalCode.ENGINE_FAILED, str(failed)))
            return
        except Exception as error:
            log.exception("job.raised", request_id=key[0], attempt=key[1])
            reason = f"the engine could not take the request: {type(error).__name__}: {error}"
            self._refuse(key, record, _refused(key, RefusalCode.ENGINE_FAILED, reason))
            return
        if self._records.get(key) is not record:
            engine.abort(*key)  # its session broke, or it was returned, while the prompt was counted
            return
        record.accepted = accepted
        record.outlet.put_event(accepted)
        if record.aborted:
            engine.abort(*key)
        early, record.early = record.early, []
        for delta in early:
            self._forward(key, record, delta)

    async def _embed(self, engine: Engine, key: AttemptKey, record: _Record) -> None:
        """Vectors come all at once, with the last delta and the only one."""
        assert record.job.embedding is not None

        def counted(prompt_tokens: int) -> None:
            record.accepted = Accepted(request_id=key[0], attempt=key[1], prompt_tokens=prompt_tokens)
            record.outlet.put_event(record.accepted)

        try:
            embedded = await engine.embed(record.job.model, record.job.quantization, record.job.embedding, counted)
        except EngineError as error:
            if record.accepted is None:
                raise
            self._forward(key, record, _last_words(key, record, FinishReason.ERROR, error=str(error)))
            return
        if self._records.get(key) is record:
            if record.accepted is None:
                counted(embedded.prompt_tokens)
            self._forward(key, record, _last_words(key, record, FinishReason.STOP, vectors=embedded.vectors))

    def _refuse(self, key: AttemptKey, record: _Record, refusal: Refusal) -> None:
        self._finish(key, record, failed=refusal.message)
        record.outlet.put_event(refusal)

    # ------------------------------------------------------------ output

    def deliver(self, result: StepResult) -> None:
        """Hand one step's deltas to the sessions their jobs came from."""
        for delta in result.deltas:
            key = (delta.request_id, delta.attempt)
            record = self._records.get(key)
            if record is None:
                continue  # its session broke, or it went back: nobody is left to hear
            if record.accepted is not None:
                self._forward(key, record, delta)
            elif len(record.early) < MAX_EARLY_DELTAS:
                record.early.append(delta)

    def _forward(self, key: AttemptKey, record: _Record, delta: Delta) -> None:
        record.position = delta.position + delta.token_count
        if delta.finish_reason is not None:
            if record.overdue and delta.finish_reason is FinishReason.ABORTED:
                reason = f"the deadline of {record.job.deadline_s:g} s passed"
                delta = msgspec.structs.replace(delta, finish_reason=FinishReason.ERROR, error=reason)
            self._finish(key, record, failed=delta.error if delta.finish_reason is FinishReason.ERROR else "")
        record.outlet.put_delta(delta)

    def _finish(self, key: AttemptKey, record: _Record, *, failed: str = "") -> None:
        if failed:
            log.debug("job.failed", request_id=key[0], attempt=key[1], reason=failed, tokens=record.position)
        else:
            log.debug("job.complete", request_id=key[0], attempt=key[1], tokens=record.position)
        if record.deadline is not None:
            record.deadline.cancel()
        if self._records.get(key) is record:
            del self._records[key]
        self._left.set()
        self._used(record.job)
        if not self._records:
            self._empty.set()

    def _expire(self, key: AttemptKey) -> None:
        record = self._records.get(key)
        if record is not None:
            record.overdue = True
            self.abort(*key)

    # ------------------------------------------------------------ ends that come from elsewhere

    def session_broken(self, outlet: Outlet) -> None:
        """Abort everything that came over a session that is gone."""
        for key, record in list(self._records.items()):
            if record.outlet is outlet:
                self._drop(key, record, "its session broke")

    def return_all(self, reason: str, *, of: tuple[str, str] | None = None) -> None:
        """Give every job (``of`` a model and quantization) back to the router, as far as it got."""
        for key, record in list(self._records.items()):
            if of is not None and not _concerns(record.job, *of):
                continue
            self._drop(key, record, reason)
            record.outlet.put_event(Returned(request_id=key[0], attempt=key[1], reason=reason))

    def _drop(self, key: AttemptKey, record: _Record, reason: str) -> None:
        self._finish(key, record, failed=reason)
        if record.job.embedding is not None:
            self._cancel(record)
        elif self._engine is not None:
            self._engine.abort(*key)

    @staticmethod
    def _cancel(record: _Record) -> None:
        if record.submission is not None:
            record.submission.cancel()

    def engine_failed(self, reason: str) -> None:
        """End every job with the engine's error; nothing it ran survives."""
        self._engine = None
        for key, record in list(self._records.items()):
            self._finish(key, record, failed=reason)
            self._cancel(record)
            if record.accepted is None:
                record.outlet.put_event(_refused(key, RefusalCode.ENGINE_FAILED, reason))
                continue
            record.outlet.put_delta(_last_words(key, record, FinishReason.ERROR, error=f"the engine died: {reason}"))

    async def close(self) -> None:
        """Forget every job without a word, when nobody is left to hear of it."""
        submissions = [one.submission for one in self._records.values() if one.submission is not None]
        for key, record in list(self._records.items()):
            self._drop(key, record, "the worker ends")
        for one in submissions:
            one.cancel()
        await asyncio.gather(*submissions, return_exceptions=True)

    async def drained(self, deadline_s: float) -> bool:
        """Wait until no job is left; False when ``deadline_s`` passed first."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def idle_s(self, model: str, quantization: str) -> float:
        """Seconds since the last job of one model ended; 0 while one is here, infinite where there was none."""
        if any(_concerns(one.job, model, quantization) for one in self._records.values()):
            return 0.0
        used = [at for (name, held), at in self._used_at.items() if name == model and held in ("", quantization)]
        return time.monotonic() - max(used, default=-math.inf)

    def _used(self, job: Job) -> None:
        self._used_at[job.model, job.quantization] = time.monotonic()
        if len(self._used_at) > MAX_MODELS:
            self._used_at = {key: at for key, at in self._used_at.items() if not self._why_not_ready(*key)}

    async def drained_of(self, model: str, quantization: str, deadline_s: float) -> bool:
        """Wait until no job of one model is left; False when ``deadline_s`` passed first."""
        try:
            async with asyncio.timeout(deadline_s):
                while any(_concerns(one.job, model, quantization) for one in self._records.values()):
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True


def _concerns(job: Job, model: str, quantization: str) -> bool:
    return job.model == model and job.quantization in ("", quantization)


def _last_words(
    key: AttemptKey,
    record: _Record,
    reason: FinishReason,
    *,
    error: str = "",
    vectors: tuple[tuple[float, ...], ...] = (),
) -> Delta:
    """The delta that ends a job whose engine does not say so itself."""
    accepted = record.accepted
    usage = Usage(completion_tokens=record.position)
    if accepted is not None:
        usage = replace(usage, prompt_tokens=accepted.prompt_tokens, cached_tokens=accepted.cached_tokens)
    return Delta(
        request_id=key[0],
        attempt=key[1],
        position=record.position,
        finish_reason=reason,
        usage=usage,
        error=error,
        vectors=vectors,
    )


def _refused(key: AttemptKey, code: RefusalCode, message: str) -> Refusal:
    return Refusal(request_id=key[0], attempt=key[1], code=code, message=message)
