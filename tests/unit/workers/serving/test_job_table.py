"""Rule: a job is refused before anything is computed, or ends in exactly one final delta or return; then it is gone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from protos.contract.events import WorkerEvent
from protos.contract.ids import RequestId
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned
from protos.contract.worker import Load
from tests.support.echo_engine import EchoEngine
from tests.support.until import until_changed
from workers.engines.base import ModelSpec, StepResult
from workers.engines.step_reader import StepReader
from workers.serving.job_table import JobTable


class Outlet:
    """A session as the table sees it."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []
        self.deltas: list[Delta] = []
        self.changed = asyncio.Event()

    def put_event(self, event: WorkerEvent) -> None:
        self.events.append(event)
        self.changed.set()

    def put_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.changed.set()

    @property
    def refusals(self) -> list[Refusal]:
        return [one for one in self.events if isinstance(one, Refusal)]

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.deltas)

    @property
    def finals(self) -> list[Delta]:
        return [one for one in self.deltas if one.finish_reason is not None]

    async def accepted(self) -> None:
        await until_changed(self.changed, lambda: any(isinstance(one, Accepted) for one in self.events))

    async def final(self) -> Delta:
        await until_changed(self.changed, lambda: self.finals)
        return self.finals[0]

    async def refused(self) -> Refusal:
        await until_changed(self.changed, lambda: self.refusals)
        return self.refusals[0]


class Slow(EchoEngine):
    """Counts a prompt only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = asyncio.Event()
        self.counting = asyncio.Event()

    async def submit(self, job: Job) -> Accepted:
        self.counting.set()
        await self.counted.wait()
        return await super().submit(job)


class Early(EchoEngine):
    """Its first delta comes before its word that the job is taken."""

    def __init__(self, jobs: JobTable) -> None:
        super().__init__()
        self._jobs = jobs

    async def submit(self, job: Job) -> Accepted:
        accepted = await super().submit(job)
        self._jobs.deliver(StepResult(deltas=(_delta(job, 0, "e"), _delta(job, 1, "a")), load=Load()))
        return accepted


class Broken(EchoEngine):
    """Raises what no engine should."""

    async def submit(self, job: Job) -> Accepted:
        raise RuntimeError(f"{job.request_id}: a bug")


def _delta(job: Job, position: int, text: str, end: FinishReason | None = None) -> Delta:
    return Delta(
        request_id=job.request_id,
        attempt=job.attempt,
        position=position,
        text=text,
        token_count=len(text),
        text_tokens=position + len(text),
        finish_reason=end,
    )


def job(request_id: str = "r", prompt: str = "hello", **more: object) -> Job:
    return Job(request_id=request_id, attempt=1, model="echo", quantization="none", prompt=prompt, **more)  # type: ignore[arg-type]


def table(engine: EchoEngine | None = None, *, not_ready: str = "", max_jobs: int = 8) -> JobTable:
    jobs = JobTable(why_not_ready=lambda _model, _quantization: not_ready, max_jobs=max_jobs)
    if engine is not None:
        jobs.attach(engine)
    return jobs


@pytest.fixture
async def engine() -> AsyncIterator[EchoEngine]:
    """Loaded, and not yet stepping."""
    made = EchoEngine()
    await made.load(ModelSpec(name="echo", path="echo.file"), lambda _fraction, _message: None)
    made.gate.clear()
    yield made
    await made.close()


@pytest.fixture
async def jobs(engine: EchoEngine) -> AsyncIterator[JobTable]:
    """A table over the engine, whose steps are read; afterwards it is empty."""
    made = table(engine)
    reader = StepReader(engine, made.engine_failed)
    reader.add(made.deliver)
    reader.start()
    yield made
    await reader.stop()
    assert len(made) == 0


# ---------------------------------------------------------------- taken


async def test_a_job_is_accepted_with_the_exact_count_and_answered(engine: EchoEngine, jobs: JobTable) -> None:
    """Acceptance first, then deltas, the final one once."""
    heard = Outlet()
    engine.gate.set()
    jobs.generate(heard, job())
    await heard.final()
    assert heard.events == [Accepted(request_id="r", attempt=1, prompt_tokens=5)]
    assert heard.text == "hello"
    assert len(heard.finals) == 1
    assert await jobs.drained(0.0)


async def test_deltas_that_overtake_the_acceptance_wait_for_it() -> None:
    """The router never hears output of a job it does not know to be accepted."""
    jobs = table()
    jobs.attach(Early(jobs))
    heard = Outlet()
    jobs.generate(heard, job())
    assert (len(jobs), heard.deltas) == (1, [])
    await until_changed(heard.changed, lambda: heard.text == "ea")
    assert isinstance(heard.events[0], Accepted)
    jobs.session_broken(heard)


async def test_the_load_counts_what_the_engine_has_not_counted_yet() -> None:
    """By the routers' estimates, until it has."""
    engine = Slow()
    jobs, heard = table(engine), Outlet()
    jobs.generate(heard, job(), expected_prefill_tokens=600)
    assert (jobs.load_figures().waiting, jobs.load_figures().prefill_tokens_pending) == (1, 600)
    engine.counted.set()
    await heard.accepted()
    assert (jobs.load_figures().waiting, jobs.load_figures().prefill_tokens_pending) == (0, 5)
    await jobs.close()


# ---------------------------------------------------------------- refused


async def test_what_is_not_taken_is_refused_with_the_reason_and_never_reaches_the_engine() -> None:
    """Closed, without an engine, not loaded here, known already, too many."""
    heard = Outlet()
    closed = table(EchoEngine())
    closed.closed_because = "the worker is draining: enough"
    closed.generate(heard, job())
    table().generate(heard, job())
    table(EchoEngine(), not_ready="echo is loading").generate(heard, job())
    full = table(Slow(), max_jobs=1)
    full.generate(heard, job("first"))
    full.generate(heard, job("first"))
    full.generate(heard, job("second"))
    assert [(one.code, one.message) for one in heard.refusals] == [
        (RefusalCode.DRAINING, "the worker is draining: enough"),
        (RefusalCode.ENGINE_FAILED, "the engine died and is being started again"),
        (RefusalCode.MODEL_NOT_LOADED, "echo is loading"),
        (RefusalCode.INVALID, "attempt 1 of this request already runs here"),
        (RefusalCode.BUSY, "1 requests are here already"),
    ]
    assert [len(one) for one in (closed, full)] == [0, 1]
    await full.close()


async def test_an_engines_refusal_goes_back_with_its_counts(engine: EchoEngine, jobs: JobTable) -> None:
    """The client's fault, told exactly."""
    heard = Outlet()
    jobs.generate(heard, job(prompt="x" * 10_001))
    refusal = await heard.refused()
    assert (refusal.code, refusal.prompt_tokens, refusal.context_tokens) == (
        RefusalCode.CONTEXT_LENGTH,
        10_001,
        10_000,
    )
    assert engine.aborted == []


async def test_whatever_an_engine_raises_becomes_a_refusal() -> None:
    """A dead one its own reason; a bug its name, so that it can be reported."""
    dead = EchoEngine()
    dead.kill("out of memory")
    for engine, told in ((dead, "out of memory"), (Broken(), "RuntimeError: r: a bug")):
        jobs, heard = table(engine), Outlet()
        jobs.generate(heard, job())
        refusal = await heard.refused()
        assert refusal.code is RefusalCode.ENGINE_FAILED
        assert told in refusal.message
        assert len(jobs) == 0


# ---------------------------------------------------------------- ended from outside


async def test_an_abort_ends_a_job_with_one_final_delta(engine: EchoEngine, jobs: JobTable) -> None:
    """Aborted again, or never known: ignored."""
    heard = Outlet()
    jobs.generate(heard, job())
    await heard.accepted()
    jobs.abort("r", 1)
    jobs.abort("r", 1)
    jobs.abort("nobody", 1)
    engine.gate.set()
    assert (await heard.final()).finish_reason is FinishReason.ABORTED
    assert engine.aborted == [("r", 1)]


async def test_an_abort_before_the_engine_has_the_job_is_done_once_it_has() -> None:
    """The router's word is not lost while the prompt is counted."""
    engine = Slow()
    jobs, heard = table(engine), Outlet()
    jobs.generate(heard, job())
    await engine.counting.wait()
    jobs.abort("r", 1)
    assert engine.aborted == []
    engine.counted.set()
    await heard.accepted()
    assert engine.aborted == [("r", 1)]
    await jobs.close()


async def test_a_session_that_breaks_while_the_prompt_is_counted_leaves_no_job_in_the_engine() -> None:
    """It is aborted as soon as the engine knows it, and nobody hears of it."""
    engine = Slow()
    jobs, heard = table(engine), Outlet()
    jobs.generate(heard, job())
    await engine.counting.wait()
    jobs.session_broken(heard)
    assert await jobs.drained(0.0)
    engine.counted.set()
    await until_changed(engine.changed, lambda: engine.aborted == [("r", 1)])
    assert heard.events == []


async def test_a_broken_session_ends_its_own_jobs_alone(engine: EchoEngine, jobs: JobTable) -> None:
    """Other routers' requests go on."""
    mine, other = Outlet(), Outlet()
    jobs.generate(mine, job("mine"))
    jobs.generate(other, job("other"))
    await mine.accepted()
    await other.accepted()
    jobs.session_broken(mine)
    engine.gate.set()
    await other.final()
    assert other.text == "hello"
    assert (mine.deltas, engine.aborted) == ([], [("mine", 1)])


async def test_a_deadline_ends_a_job_with_an_error_that_names_it(engine: EchoEngine, jobs: JobTable) -> None:
    """Of the request, not of the client: the router can tell them apart."""
    heard = Outlet()
    jobs.generate(heard, job(deadline_s=0.001))
    await heard.accepted()
    await until_changed(engine.changed, lambda: engine.aborted)
    engine.gate.set()
    last = await heard.final()
    assert (last.finish_reason, last.error) == (FinishReason.ERROR, "the deadline of 0.001 s passed")


async def test_jobs_that_go_back_are_aborted_and_told_once(engine: EchoEngine, jobs: JobTable) -> None:
    """Accepted or not; no delta follows."""
    heard = Outlet()
    jobs.generate(heard, job())
    await heard.accepted()
    jobs.return_all("the machine goes to sleep")
    engine.gate.set()
    assert heard.events[1:] == [Returned(request_id="r", attempt=1, reason="the machine goes to sleep")]
    assert (heard.deltas, engine.aborted) == ([], [("r", 1)])


async def test_a_dying_engine_ends_every_job_by_how_far_it_got() -> None:
    """Accepted ones with a final delta and their counts, the others with a refusal; then there is no engine."""
    engine = Slow()
    jobs, taken, counted = table(engine), Outlet(), Outlet()
    engine.counted.set()
    jobs.generate(taken, job("taken"))
    await taken.accepted()
    jobs.deliver(StepResult(deltas=(_delta(job("taken"), 0, "hel"),), load=Load()))
    engine.counted.clear()
    jobs.generate(counted, job("counted"))
    jobs.engine_failed("out of memory")
    (last,) = taken.finals
    assert (last.finish_reason, last.position, last.error) == (FinishReason.ERROR, 3, "the engine died: out of memory")
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (5, 3)
    assert [one.code for one in counted.refusals] == [RefusalCode.ENGINE_FAILED]
    assert (len(jobs), jobs.load_figures()) == (0, Load())
    jobs.generate(counted, job("next"))
    assert counted.refusals[-1].code is RefusalCode.ENGINE_FAILED
    await asyncio.sleep(0)  # the submission that was cancelled ends


async def test_a_drain_waits_for_the_last_job_or_its_deadline(engine: EchoEngine, jobs: JobTable) -> None:
    """The answer says which."""
    heard = Outlet()
    assert await jobs.drained(0.0), "empty from the start"
    jobs.generate(heard, job())
    assert not await jobs.drained(0.0)
    waiting = asyncio.create_task(jobs.drained(3600.0))
    engine.gate.set()
    assert await waiting
    await heard.final()


async def test_closing_forgets_jobs_and_ends_their_submissions() -> None:
    """Nothing of them is left, in the table, in the engine or in the loop."""
    engine = Slow()
    jobs, heard = table(engine), Outlet()
    jobs.generate(heard, job(deadline_s=3600.0))
    await engine.counting.wait()
    assert repr(jobs) == "<JobTable: 1 jobs, 0 accepted; takes work>"
    await jobs.close()
    assert len(jobs) == 0
    assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("submit")]


# ---------------------------------------------------------------- embeddings

TEXTS = EmbeddingInputs(inputs=("ab", "cde"))


async def test_an_embedding_is_accepted_with_its_count_and_ends_with_its_vectors(
    engine: EchoEngine, jobs: JobTable
) -> None:
    """One delta, the last; a vector for each input."""
    heard = Outlet()
    jobs.generate(heard, job(embedding=TEXTS))
    await heard.accepted()
    assert heard.events == [Accepted(request_id="r", attempt=1, prompt_tokens=5)]
    engine.gate.set()
    last = await heard.final()
    assert (last.vectors, last.finish_reason) == (((2.0, 1.0), (3.0, 1.0)), FinishReason.STOP)
    assert last.usage is not None
    assert last.usage.prompt_tokens == 5


async def test_an_embedding_that_nobody_waits_for_is_cancelled(engine: EchoEngine, jobs: JobTable) -> None:
    """Aborted, given back, or its session gone: nothing of it is left, and an abort has its last word."""
    outlets = {name: Outlet() for name in ("aborted", "returned", "broken")}
    for name, outlet in outlets.items():
        jobs.generate(outlet, job(name, embedding=TEXTS))
        await outlet.accepted()
    jobs.abort(RequestId("aborted"), 1)
    assert outlets["aborted"].finals[0].finish_reason is FinishReason.ABORTED
    jobs.session_broken(outlets["broken"])
    jobs.return_all("drains")
    assert isinstance(outlets["returned"].events[-1], Returned)
    assert await jobs.drained(0.0)


async def test_an_embedding_is_refused_or_fails_as_any_job(engine: EchoEngine, jobs: JobTable) -> None:
    """Before it is counted with a refusal, afterwards with an error."""
    refused, failed = Outlet(), Outlet()
    jobs.generate(refused, job("one", embedding=EmbeddingInputs(inputs=("",))))
    assert (await refused.refused()).parameter == "input"
    jobs.generate(failed, job("two", embedding=TEXTS))
    await failed.accepted()
    jobs.engine_failed("it died")
    assert (await failed.final()).finish_reason is FinishReason.ERROR
