"""The life of a worker: it is let in, serves, drains, survives its engine, and leaves nothing behind."""

import asyncio

import grpc
import pytest
from structlog.testing import capture_logs

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.worker import Replica
from tests.support.socketless import status
from tests.unit.workers.serving.conftest import Rig, generate, running
from tests.unit.workers.serving.test_availability import answered
from workers.engines.base import Engine, LoadError, ModelSpec
from workers.serving.worker import Ended
from workers.session.enrolment import EnrolFailed, EnrolReply

MISSING = ModelSpec(name="gone", path="missing.file")


async def test_a_request_goes_through_and_a_stop_lets_it_finish() -> None:
    """Its answer is complete, bye is the last word, and the exit status is 0."""
    rig = Rig()
    async with running(rig) as task:
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("r", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        rig.engine.gate.set()
        assert await task == Ended(code=0, reason="enough")
    assert session.text("r") == "hello"
    assert [one.kind for one in session.of("leaving")] == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_BYE]


async def test_a_stop_gives_back_what_does_not_finish_in_time() -> None:
    """As far as it got; the router goes on elsewhere."""
    rig = Rig(drain_s=0.0)
    async with running(rig) as task:
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("r", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        await task
    assert [one.request_id for one in session.of("returned")] == ["r"]
    assert rig.engine.aborted == [("r", 1)]


async def test_asked_twice_a_worker_stops_at_once() -> None:
    """Nothing is waited for, and the router still hears bye."""
    rig = Rig(drain_s=3600.0)
    async with running(rig) as task:
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("r", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        rig.worker.stop("at once")
        assert await task == Ended(code=0, reason="at once")
    assert session.of("leaving")[-1].kind == pb.LEAVING_KIND_BYE


async def test_cancelling_a_worker_leaves_nothing_behind() -> None:
    """Jobs that were under way, sessions and the engine end with it, whatever stage they were in."""
    rig = Rig()
    async with running(rig) as task:
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("running", "hello"))
        await session.until(lambda one: one.of("accepted"))
        session.send(**generate("just sent", "hello"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_session_that_breaks_takes_its_jobs_along() -> None:
    """Nobody is left to hear them; the worker dials again."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("r", "hello"))
        await session.until(lambda one: one.of("accepted"))
        session.fail(status(grpc.StatusCode.UNAVAILABLE, "the cable was pulled"))
        await rig.session(2)
        assert rig.engine.aborted == [("r", 1)]


# ---------------------------------------------------------------- a dying engine


async def test_an_engine_that_dies_ends_its_jobs_and_is_started_again() -> None:
    """Each job ends with the engine's reason; models come back in another engine."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("r", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.engine.kill("out of memory")
        last = await session.until(lambda one: one.finish("r"))
        assert "out of memory" in last.error
        await session.ready()
        session.send(**generate("next", "again"))
        await session.until(lambda one: one.finish("next"))
        assert session.text("next") == "again"
        assert [one.closed for one in rig.engines] == [True, False]


async def test_an_engine_that_keeps_dying_ends_the_worker() -> None:
    """The fourth time within ten minutes is one too many; the exit status says so."""
    rig = Rig()
    async with running(rig) as task:
        session = await rig.session()
        for _ in range(4):
            await session.ready()
            rig.engine.kill("no such luck")
            await session.until(lambda one: one.model_state("echo") != pb.MODEL_STATE_READY)
        assert await task == Ended(code=1, reason="the engine keeps dying: no such luck")


async def test_an_engine_that_cannot_be_made_again_ends_the_worker() -> None:
    """With the reason, in one line."""

    def once() -> Engine:
        if rig.engines:
            raise LoadError("the package was removed")
        return rig._make()

    rig = Rig(make_engine=once)
    async with running(rig) as task:
        await rig.session()
        rig.engine.kill("crash")
        assert await task == Ended(code=1, reason="the engine cannot be started again: the package was removed")


async def test_a_worker_with_nothing_to_serve_leaves_when_it_was_told_to() -> None:
    """One that loads is enough to stay."""
    rig = Rig(models=(MISSING,), leave_unless_loaded=True)
    async with running(rig) as task:
        ended = await task
        assert ended.code == 1
        assert "missing.file: no such file" in ended.reason
    rig = Rig(models=(MISSING, ModelSpec(name="echo", path="echo.file")), leave_unless_loaded=True)
    async with running(rig):
        await rig.session()


async def test_a_worker_whose_head_is_newer_goes_on_and_says_so_in_its_log() -> None:
    """With what brings it level; a head that does not tell its version, or the same one, says nothing."""
    for head, said in (("9.9", True), ("0.1.0", False), ("", False)):
        rig = Rig(version="0.1.0")
        rig.router.version = head
        with capture_logs() as logs:
            async with running(rig):
                session = await rig.session()
                await answered(session, "r")
        differ = [one for one in logs if one["event"] == "versions.differ"]
        assert bool(differ) is said
        assert not said or (differ[0]["head"], differ[0]["here"]) == ("9.9", "0.1.0")


# ---------------------------------------------------------------- being let in


class Pool:
    """Lets workers in, as often as it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def enrol(self) -> EnrolReply:
        self.asked += 1
        return EnrolReply(worker_id=f"new-{self.asked}", replicas=(Replica(replica_id="b", address="other:1"),))


async def test_a_worker_without_a_name_enrols_before_it_dials() -> None:
    """And dials the replicas that enrolment named."""
    pool = Pool()
    rig = Rig(worker_id="", enrol=pool.enrol)
    async with running(rig):
        first, second = await rig.router.session(1), await rig.router.session(2)
        assert {first.hello.worker_id, second.hello.worker_id} == {"new-1"}
        assert {first.call.address, second.call.address} == {"router:1", "other:1"}
    assert pool.asked == 1


async def test_an_enrolment_that_fails_ends_the_worker_before_it_began() -> None:
    """The caller hears why."""

    async def refuse() -> EnrolReply:
        raise EnrolFailed("the pool is full", retryable=False)

    rig = Rig(worker_id="", enrol=refuse)
    with pytest.raises(EnrolFailed, match="the pool is full"):
        await rig.worker.run()
    assert rig.engine.closed
    assert rig.router.dials == 0


async def test_a_router_that_does_not_know_an_old_name_gives_a_new_one() -> None:
    """Once: a worker turned away right after it enrolled is not wanted."""
    pool = Pool()
    rig = Rig(worker_id="from an earlier life", enrol=pool.enrol)
    rig.router.refusal = status(grpc.StatusCode.UNAUTHENTICATED, "not known here")
    async with running(rig) as task:
        ended = await task
    assert ended.code == 1
    assert ended.reason.endswith("does not let this worker in: not known here")
    assert pool.asked == 1


async def test_a_worker_dismissed_for_good_ends_unless_its_name_is_from_an_earlier_life() -> None:
    """Dismissed once more, it goes; a dismissal that is not for good only ends the session."""
    pool = Pool()
    rig = Rig(worker_id="from an earlier life", enrol=pool.enrol)
    async with running(rig) as task:
        session = await rig.session(1)
        session.send(dismiss=pb.Dismiss(reason="restarting", permanent=False))
        session = await rig.session(2)
        assert session.hello.worker_id == "from an earlier life"
        session.send(dismiss=pb.Dismiss(reason="never heard of you", permanent=True))
        session = await rig.session(3)
        assert pool.asked == 1
        session.send(dismiss=pb.Dismiss(reason="go away", permanent=True))
        assert await task == Ended(code=1, reason="the router dismissed this worker for good: go away")
