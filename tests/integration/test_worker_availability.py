"""What a worker does with an abort that comes early, and with a drain when the lid closes and opens."""

import asyncio

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.request import Job
from protos.contract.stream import Accepted
from tests.integration.test_worker_session import Rig, fleet, generate, ready, running
from tests.support.echo_engine import EchoEngine
from tests.support.fleet_servicer import Fleet, SessionEnd

__all__ = ["fleet"]


class SlowCounting(EchoEngine):
    """Takes its time to count a prompt, and knows nothing of the job before."""

    def __init__(self) -> None:
        super().__init__()
        self.counting = asyncio.Event()
        self.counted = asyncio.Event()

    async def submit(self, job: Job) -> Accepted:
        self.counting.set()
        await self.counted.wait()
        return await super().submit(job)


class SlowRig(Rig):
    """A worker with that engine."""

    def _make(self) -> EchoEngine:
        self.engines.append(SlowCounting())
        return self.engines[-1]


def leavings(session: SessionEnd) -> list[int]:
    return [one.kind for one in session.of("leaving")]


async def test_an_abort_that_comes_while_the_prompt_is_counted_is_not_lost(fleet: Fleet) -> None:
    """Nobody computes an answer that nobody waits for; meanwhile the load shows the job."""
    rig = SlowRig(fleet)
    async with running(rig):
        session = await ready(fleet)
        engine = rig.engine
        assert isinstance(engine, SlowCounting)
        session.send(**generate("r1", "a long text " * 500))
        await asyncio.wait_for(engine.counting.wait(), 60)
        assert rig.worker.load_figures().waiting == 1
        session.send(abort=pb.Abort(request_id="r1", attempt=1))
        session.send(ping=pb.Ping(sequence=7))
        await session.until(lambda one: any(pong.sequence == 7 for pong in one.of("pong")))
        engine.counted.set()
        await session.until(lambda one: one.finish("r1"))
        assert ("r1", 1) in engine.aborted
        assert len(session.text("r1")) < 6000
        assert rig.worker.load_figures().waiting == 0


async def test_a_drained_worker_that_sleeps_wakes_up_drained(fleet: Fleet) -> None:
    """Only the operator takes a drain back; opening the lid does not."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        session.send(drain=pb.Drain(deadline_s=0.05))
        await session.until(lambda one: pb.LEAVING_KIND_DRAINING in leavings(one))
        rig.worker.availability.toggle_sleep()
        await session.until(lambda one: leavings(one)[-1:] == [pb.LEAVING_KIND_SLEEPING])
        rig.worker.availability.wake()
        await session.until(lambda one: leavings(one)[-1:] == [pb.LEAVING_KIND_DRAINING])
        session.send(**generate("r1", "text"))
        (refusal,) = await session.until(lambda one: one.of("refusal"))
        assert refusal.code == pb.REFUSAL_CODE_DRAINING
        session.send(undrain=pb.Undrain())
        await session.until(lambda one: leavings(one)[-1:] == [pb.LEAVING_KIND_AWAKE])
        session.send(**generate("r2", "text"))
        await session.until(lambda one: one.finish("r2"))


async def test_a_drain_while_it_sleeps_holds_when_it_wakes(fleet: Fleet) -> None:
    """It was asleep when the operator decided."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.worker.availability.toggle_sleep()
        session.send(drain=pb.Drain(deadline_s=0.05))
        session.send(ping=pb.Ping(sequence=8))
        await session.until(lambda one: any(pong.sequence == 8 for pong in one.of("pong")))
        rig.worker.availability.wake()
        await session.until(lambda one: leavings(one)[-1:] == [pb.LEAVING_KIND_DRAINING])
        session.send(**generate("r1", "text"))
        (refusal,) = await session.until(lambda one: one.of("refusal"))
        assert refusal.code == pb.REFUSAL_CODE_DRAINING
