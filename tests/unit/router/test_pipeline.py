"""The life of a request without a socket: however it ends, and whenever its client leaves, nothing stays behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from protos.contract.ids import RequestId
from protos.contract.request import Job
from protos.contract.stream import FinishReason, RefusalCode
from protos.contract.tools import ToolCallDelta
from router.config import DispatchConfig
from router.domain.answer import Chunk
from router.errors import ContextLengthExceeded, DeadlineExceeded, WorkerFailed
from router.pipeline import LiveAnswer
from tests.support.fleets import request
from tests.support.scripted_worker import PipelineRig, ScriptedWorker, text_of
from tests.support.until import until_async

HASHES = tuple(range(15))
ASKED = request(1, block_hashes=HASHES, max_tokens=10)
R1 = RequestId("r1")


@pytest.fixture
async def rig() -> AsyncIterator[PipelineRig]:
    """A pipeline over two workers that serve the same model; every book is empty afterwards."""
    made = PipelineRig("a", "b")
    yield made
    made.assert_nothing_is_held()


@dataclass
class Reader:
    """A client that reads its answer chunk by chunk."""

    answer: LiveAnswer
    worker: ScriptedWorker
    job: Job

    async def next(self) -> Chunk:
        return await anext(aiter(self.answer))

    async def hears(self, *words: str) -> None:
        """Its worker writes, and it reads that."""
        self.worker.write(self.job, *words)
        assert (await self.next()).text == "".join(words)


async def accepted(rig: PipelineRig) -> Reader:
    """An answer that a worker has accepted."""
    asking = rig.ask(ASKED)
    worker, job = await rig.job()
    worker.accept(job)
    return Reader(await asking, worker, job)


async def cached_at(rig: PipelineRig, worker: ScriptedWorker) -> int:
    """Tokens of the prompt that this worker is believed to hold: what placement would count on."""
    for one in rig.workers.values():
        one.is_full(one is not worker)
    probe = rig.ask(request("probe", block_hashes=HASHES))
    await worker.job()
    claim = rig.claims.of(RequestId("rprobe"))
    assert claim is not None
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    return claim.placed.prediction.cached_tokens


# -- to its end ----------------------------------------------------------------------------------------


async def test_an_answer_is_read_to_its_end_and_its_prompt_is_held_by_who_computed_it(rig: PipelineRig) -> None:
    client = await accepted(rig)
    assert (client.answer.head.node, client.answer.head.prompt_tokens) == (client.worker.name, 1000)
    await client.hears("one", " two")
    client.worker.write(client.job, " three", end=FinishReason.STOP)
    last = await client.next()
    assert (last.text, last.finish_reason) == (" three", FinishReason.STOP)
    assert last.usage is not None
    assert last.usage.completion_tokens == 3
    assert not client.worker.aborted
    assert await cached_at(rig, client.worker) > 0


async def test_what_the_client_must_change_is_its_answer_and_goes_nowhere_else(rig: PipelineRig) -> None:
    asking = rig.ask(ASKED)
    for _ in range(2):  # each might go further than the other
        worker, job = await rig.job()
        worker.refuse(job, RefusalCode.CONTEXT_LENGTH, "1000 tokens do not fit")
    with pytest.raises(ContextLengthExceeded, match="do not fit"):
        await asking
    assert await cached_at(rig, worker) == 0


async def test_an_engine_that_died_is_no_answer_while_another_worker_lives(rig: PipelineRig) -> None:
    asking = rig.ask(ASKED)
    first, job = await rig.job()
    first.refuse(job, RefusalCode.ENGINE_FAILED, "segmentation fault")
    second, job = await rig.job()
    assert second is not first
    assert job.attempt == 2
    second.accept(job)
    second.write(job, "fine", end=FinishReason.STOP)
    assert await text_of(await asking) == "fine"


async def test_a_worker_that_does_not_answer_is_told_to_stop_and_another_is_asked() -> None:
    rig = PipelineRig("a", "b", dispatch=DispatchConfig(accept_deadline_s=0.01))
    asking = rig.ask(ASKED)
    silent, _ = await rig.job()
    other = next(one for one in rig.workers.values() if one is not silent)
    job = await other.job()
    assert silent.aborted == [(R1, 1)]
    other.accept(job)
    other.write(job, "here", end=FinishReason.STOP)
    assert await text_of(await asking) == "here"
    rig.assert_nothing_is_held()


async def test_a_request_is_given_up_after_as_many_failures_as_allowed() -> None:
    rig = PipelineRig("a", dispatch=DispatchConfig(max_attempts=1))
    asking = rig.ask(ASKED)
    worker, _ = await rig.job()
    worker.breaks_off("it crashed")
    with pytest.raises(WorkerFailed, match="gave up after 1 attempts; the last one: a: it crashed"):
        await asking
    rig.assert_nothing_is_held()


async def test_a_stream_that_breaks_off_goes_on_at_another_worker_as_one(rig: PipelineRig) -> None:
    """From what the client has; the last chunk says so."""
    client = await accepted(rig)
    await client.hears("one", " two")
    client.worker.breaks_off()
    reading = asyncio.create_task(text_of(client.answer))
    other, job = await rig.job()
    assert other is not client.worker
    assert (job.continue_from.text, job.continue_from.output_tokens) == ("one two", 2)
    assert job.sampling.max_tokens == 8
    other.accept(job)
    other.write(job, " three", end=FinishReason.STOP)
    assert await reading == " three"


async def test_a_worker_that_drains_is_not_told_to_stop_what_it_gave_back(rig: PipelineRig) -> None:
    client = await accepted(rig)
    await client.hears("one")
    client.worker.drains()
    moves: list[Any] = []
    reading = asyncio.create_task(text_of(client.answer, lambda chunk: moves.extend(chunk.continuations)))
    other, job = await rig.job()
    other.accept(job)
    other.write(job, " two", end=FinishReason.LENGTH)
    assert await reading == " two"
    assert [(one.from_node, one.to_node, one.at_token, one.reason) for one in moves] == [
        (client.worker.name, other.name, 1, f"{client.worker.name}: it drains")
    ]
    assert not client.worker.aborted


async def test_a_call_goes_on_where_its_text_is_known(rig: PipelineRig) -> None:
    """The next worker reads what the model wrote; the client got the call's pieces, and gets the rest."""
    client = await accepted(rig)
    piece = ToolCallDelta(index=0, id="c", name="look")
    client.worker.write(client.job, '{"name":"look"', tool_calls=(piece,), raw='{"name":"look"')
    assert (await client.next()).tool_calls == (piece,)
    client.worker.breaks_off()
    reading = asyncio.create_task(text_of(client.answer))
    other, job = await rig.job()
    assert job.continue_from.text == '{"name":"look"'
    other.accept(job)
    other.write(job, "}", end=FinishReason.TOOL_CALLS)
    assert await reading == "}"


async def test_a_call_whose_text_nobody_told_ends_where_it_broke_off(rig: PipelineRig) -> None:
    """A server that already runs tells calls alone: nobody could come to the same state."""
    client = await accepted(rig)
    client.worker.write(client.job, "", tool_calls=(ToolCallDelta(index=0, id="c", name="look"),))
    assert (await client.next()).tool_calls
    client.worker.breaks_off()
    with pytest.raises(WorkerFailed, match="broke off in a call that no other worker can go on with"):
        await client.next()


async def test_what_broke_off_after_its_last_token_is_complete(rig: PipelineRig) -> None:
    """Nothing is left to ask another worker for."""
    client = await accepted(rig)
    await client.hears(*(f" {number}" for number in range(10)))
    client.worker.breaks_off()
    last = await client.next()
    assert (last.text, last.finish_reason) == ("", FinishReason.LENGTH)


async def test_output_that_does_not_follow_on_moves_the_stream_and_is_held_against_the_worker(rig: PipelineRig) -> None:
    client = await accepted(rig)
    await client.hears("one")
    client.worker.skip(client.job)
    client.worker.write(client.job, " four")
    reading = asyncio.create_task(text_of(client.answer))
    other, job = await rig.job()
    assert other is not client.worker
    other.accept(job)
    other.write(job, " two", end=FinishReason.STOP)
    assert await reading == " two"
    assert client.worker.member.breaker.owed > 0


async def test_time_that_runs_out_in_mid_stream_ends_the_answer_and_the_work(rig: PipelineRig) -> None:
    asking = rig.ask(request(1, block_hashes=HASHES, deadline_at=5.0))
    worker, job = await rig.job()
    worker.accept(job)
    client = Reader(await asking, worker, job)
    await client.hears("one")
    rig.clock.advance(10.0)
    with pytest.raises(DeadlineExceeded):
        await client.next()
    assert worker.aborted == [(R1, 1)]


async def test_what_cannot_even_be_sent_leaves_no_claim(rig: PipelineRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong between the choice and the command: its capacity was lost for good."""

    def raises(*_: Any, **__: Any) -> None:
        raise ValueError("this request cannot be written")

    monkeypatch.setattr(rig.sender, "send", raises)
    with pytest.raises(ValueError, match="cannot be written"):
        await rig.ask(ASKED)


# -- the client leaves, at every stage -----------------------------------------------------------------


class Left:
    """What a client that leaves has under way: to be cancelled, and where its prompt was computed, if anywhere."""

    def __init__(self, task: "asyncio.Task[Any]", told_to_stop: ScriptedWorker | None = None, attempt: int = 1) -> None:
        self.task = task
        self.told_to_stop = told_to_stop
        self.attempt = attempt


async def while_it_waits_for_admission(rig: PipelineRig) -> Left:
    for worker in rig.workers.values():
        worker.is_full()
    asking = rig.ask(ASKED)
    await asyncio.sleep(0)
    assert rig.scheduler.queued == 1
    return Left(asking)


async def in_the_moment_of_its_placement(rig: PipelineRig) -> Left:
    """It has a claim, and nothing was sent: its task has not run again."""
    waits = await while_it_waits_for_admission(rig)
    rig.workers["a"].is_full(False)
    rig.queue._tick()
    assert (len(rig.claims), waits.task.done()) == (1, False)
    return waits


async def while_it_backs_off_from_busy_workers(rig: PipelineRig) -> Left:
    asking = rig.ask(ASKED)
    worker, job = await rig.job()
    worker.refuse(job, RefusalCode.BUSY, "all slots are taken")
    await until_async(lambda: not len(rig.claims), rig.scheduler.__repr__, every_s=0)
    assert "1 backing off" in repr(rig.scheduler)
    return Left(asking)


async def before_its_worker_accepts(rig: PipelineRig) -> Left:
    asking = rig.ask(ASKED)
    worker, _ = await rig.job()
    return Left(asking, worker)


async def before_the_first_word(rig: PipelineRig) -> Left:
    client = await accepted(rig)
    reading = asyncio.create_task(text_of(client.answer))
    await asyncio.sleep(0)
    return Left(reading, client.worker)


async def in_mid_stream(rig: PipelineRig) -> Left:
    client = await accepted(rig)
    await client.hears("one")
    reading = asyncio.create_task(text_of(client.answer))
    await asyncio.sleep(0)
    return Left(reading, client.worker)


async def while_its_stream_waits_for_another_worker(rig: PipelineRig) -> Left:
    client = await accepted(rig)
    await client.hears("one")
    for worker in rig.workers.values():
        worker.is_cordoned()
    client.worker.breaks_off()
    reading = asyncio.create_task(text_of(client.answer))
    await asyncio.sleep(0)
    assert rig.scheduler.queued == 1
    return Left(reading)


async def before_another_worker_takes_its_stream(rig: PipelineRig) -> Left:
    client = await accepted(rig)
    await client.hears("one")
    client.worker.breaks_off()
    reading = asyncio.create_task(text_of(client.answer))
    other, job = await rig.job()
    return Left(reading, other, job.attempt)


async def in_mid_stream_at_another_worker(rig: PipelineRig) -> Left:
    client = await accepted(rig)
    await client.hears("one")
    client.worker.breaks_off()
    moved = asyncio.create_task(client.next())
    other, job = await rig.job()
    other.accept(job)
    other.write(job, " two")
    assert (await moved).text == " two"
    reading = asyncio.create_task(text_of(client.answer))
    await asyncio.sleep(0)
    return Left(reading, other, job.attempt)


Stage = Callable[[PipelineRig], Awaitable[Left]]
STAGES: tuple[Stage, ...] = (
    while_it_waits_for_admission,
    in_the_moment_of_its_placement,
    while_it_backs_off_from_busy_workers,
    before_its_worker_accepts,
    before_the_first_word,
    in_mid_stream,
    while_its_stream_waits_for_another_worker,
    before_another_worker_takes_its_stream,
    in_mid_stream_at_another_worker,
)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
async def test_a_client_that_leaves_takes_everything_along(rig: PipelineRig, stage: Stage) -> None:
    """The worker that has its request is told to stop, once; no other is told anything."""
    left = await stage(rig)
    left.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left.task
    told = {worker.name: worker.aborted for worker in rig.workers.values() if worker.aborted}
    assert told == ({left.told_to_stop.name: [(R1, left.attempt)]} if left.told_to_stop else {})
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("stage", [before_its_worker_accepts, before_the_first_word], ids=lambda one: one.__name__)
async def test_a_prompt_whose_client_left_before_its_first_word_is_nobodys_cached_prefix(
    rig: PipelineRig, stage: Stage
) -> None:
    """Nobody knows whether it was computed; 999 of its tokens were believed for ten minutes."""
    left = await stage(rig)
    left.task.cancel()
    await asyncio.gather(left.task, return_exceptions=True)
    assert left.told_to_stop is not None
    assert await cached_at(rig, left.told_to_stop) == 0


async def test_an_answer_that_is_closed_twice_is_stopped_once(rig: PipelineRig) -> None:
    client = await accepted(rig)
    await client.hears("one")
    await client.answer.aclose()
    await client.answer.aclose()
    assert client.worker.aborted == [(R1, 1)]
