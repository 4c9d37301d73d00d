"""Rule: a job whose precondition does not hold is refused before anything of it is queued, with what was found."""

import asyncio
from typing import cast

from protos.contract.events import WorkerEvent
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta, Refusal, RefusalCode
from protos.contract.worker import Load
from tests.support.until import until_changed
from workers.engines.base import Engine
from workers.serving.job_table import JobTable
from workers.serving.precondition import violation


class SlowCounter:
    """An engine that has ``pending`` prompt tokens waiting, and counts a new prompt only when told to."""

    def __init__(self, pending: int = 0) -> None:
        self.figures = Load(prefill_tokens_pending=pending)
        self.counted = asyncio.Event()
        self.submitted: list[str] = []

    def load_figures(self) -> Load:
        return self.figures

    async def submit(self, job: Job) -> Accepted:
        self.submitted.append(job.request_id)
        await self.counted.wait()
        self.figures = Load(running=1, prefill_tokens_pending=620)
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=620)


class Heard:
    """Where the events go."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []
        self.another = asyncio.Event()

    def put_event(self, event: WorkerEvent) -> None:
        self.events.append(event)
        self.another.set()

    def put_delta(self, delta: Delta) -> None:
        del delta


def jobs(engine: SlowCounter) -> JobTable:
    table = JobTable(why_not_ready=lambda _model, _quantization: "")
    table.attach(cast("Engine", engine))
    return table


def job(request_id: str) -> Job:
    return Job(request_id=request_id, attempt=1, model="m", quantization="q8_0")


def test_a_precondition_holds_up_to_the_number_it_names() -> None:
    """0 is no precondition; one token more is a conflict, which says both figures."""
    assert violation(0, Load(prefill_tokens_pending=10**9)) == ""
    assert violation(500, Load(prefill_tokens_pending=500)) == ""
    why = violation(500, Load(prefill_tokens_pending=501))
    assert "501" in why
    assert "500" in why


async def test_a_job_whose_precondition_does_not_hold_never_reaches_the_engine() -> None:
    """Refused with its own code, so that the router takes it for no failure."""
    engine, heard = SlowCounter(pending=900), Heard()
    work = jobs(engine)
    work.generate(heard, job("r"), max_queued_prefill_tokens=800)
    refusal = heard.events[0]
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.CONFLICT
    assert len(work) == 0
    assert engine.submitted == []


async def test_a_prompt_the_engine_has_not_counted_yet_stands_there_all_the_same() -> None:
    """Two routers' jobs in the same instant: the second is checked against the first."""
    engine, heard = SlowCounter(), Heard()
    work = jobs(engine)
    work.generate(heard, job("first"), max_queued_prefill_tokens=100, expected_prefill_tokens=600)
    work.generate(heard, job("second"), max_queued_prefill_tokens=500, expected_prefill_tokens=50)
    refusal = heard.events[0]
    assert isinstance(refusal, Refusal)
    assert (refusal.request_id, refusal.code) == ("second", RefusalCode.CONFLICT)
    assert work.load_figures().prefill_tokens_pending == 600
    engine.counted.set()
    await until_changed(heard.another, lambda: len(heard.events) == 2)
    assert isinstance(heard.events[1], Accepted)
    assert work.load_figures().prefill_tokens_pending == 620, "counted once it is counted"
