"""Rule: a worker that takes no work says so to every router, and refuses what comes all the same with the reason."""

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.socketless import Session
from tests.unit.workers.serving.conftest import Rig, generate, running


def kinds(session: Session) -> list[int]:
    return [one.kind for one in session.of("leaving")]


async def refused(session: Session, request_id: str) -> pb.Refusal:
    session.send(**generate(request_id, "x"))
    return await session.until(lambda one: next((r for r in one.of("refusal") if r.request_id == request_id), None))


async def answered(session: Session, request_id: str) -> None:
    session.send(**generate(request_id, "x"))
    await session.until(lambda one: one.finish(request_id))


async def test_a_drain_refuses_new_work_and_returns_the_old_at_its_deadline() -> None:
    """Undrained, it takes work again."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        session.send(drain=pb.Drain(deadline_s=0.0))
        await session.until(lambda one: one.of("returned"))
        refusal = await refused(session, "new")
        assert refusal.code == pb.REFUSAL_CODE_DRAINING
        assert "drained by the operator" in refusal.message
        rig.engine.gate.set()
        session.send(undrain=pb.Undrain())
        await answered(session, "after")
        assert kinds(session) == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_AWAKE]


async def test_an_undrain_before_the_deadline_lets_what_runs_go_on() -> None:
    """The drain is forgotten with its deadline."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        session.send(drain=pb.Drain(deadline_s=3600.0))
        session.send(undrain=pb.Undrain())
        await session.until(lambda one: len(one.of("leaving")) == 2)
        rig.engine.gate.set()
        await session.until(lambda one: one.finish("old"))
        assert session.of("returned") == []


async def test_sleep_returns_everything_at_once_and_waking_takes_work_again() -> None:
    """Announced before the requests come back."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.availability.toggle_sleep()
        await session.until(lambda one: one.of("returned"))
        said = [event.WhichOneof("event") for event in session.end.events]
        assert said.index("leaving") < said.index("returned")
        assert (await refused(session, "new")).code == pb.REFUSAL_CODE_DRAINING
        rig.engine.gate.set()
        rig.worker.availability.toggle_sleep()
        await answered(session, "after")
        assert kinds(session) == [pb.LEAVING_KIND_SLEEPING, pb.LEAVING_KIND_AWAKE]


async def test_a_drain_outlasts_a_sleep() -> None:
    """Whether it came before the sleep or during it: only an operator takes it back."""
    for drain_first in (True, False):
        rig = Rig()
        async with running(rig):
            session = await rig.session()
            if drain_first:
                session.send(drain=pb.Drain(deadline_s=1.0))
                await session.until(lambda one: one.of("leaving"))
            rig.worker.availability.toggle_sleep()
            if not drain_first:
                session.send(drain=pb.Drain(deadline_s=1.0))
                session.send(ping=pb.Ping(sequence=7))
                await session.until(lambda one: one.of("pong"))
            rig.worker.availability.wake()
            assert (await refused(session, "new")).code == pb.REFUSAL_CODE_DRAINING
            session.send(undrain=pb.Undrain())
            await answered(session, "after")


async def test_a_session_that_opens_meanwhile_is_told() -> None:
    """The router that did not hear the announcement learns it with the next session."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        session.send(drain=pb.Drain(deadline_s=1.0))
        await session.until(lambda one: one.of("leaving"))
        session.hang_up()
        second = await rig.session(2)
        await second.until(lambda one: one.of("leaving"))
        assert kinds(second) == [pb.LEAVING_KIND_DRAINING]
        rig.worker.availability.toggle_sleep()
        second.hang_up()
        third = await rig.session(3)
        await third.until(lambda one: one.of("leaving"))
        assert kinds(third) == [pb.LEAVING_KIND_SLEEPING]


async def test_a_worker_that_is_stopping_stays_so() -> None:
    """Neither an operator nor a lid that opens brings it back."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        session.send(undrain=pb.Undrain())
        assert (await refused(session, "new")).code == pb.REFUSAL_CODE_DRAINING
        rig.engine.gate.set()
