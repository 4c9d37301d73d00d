"""How a worker leaves a pool and comes back: drain, sleep, a dying engine, dismissal, a new identity."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.fleet_servicer import Fleet, serving
from tests.support.until import until_changed
from tests.support.worker_rig import Rig, generate, ready, running
from workers.serving.worker import Ended


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with serving(Fleet()) as served:
        yield served


async def test_drain_returns_what_is_not_finished_and_undrain_takes_work_again(fleet: Fleet) -> None:
    """Draining refuses new work, lets running work finish until the deadline, gives the rest back."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("slow", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        session.send(drain=pb.Drain(deadline_s=0.05))
        returned = await session.until(lambda one: one.of("returned"))
        assert returned[0].request_id == "slow"
        session.send(**generate("new", "y"))
        refusal = (await session.until(lambda one: one.of("refusal")))[0]
        assert refusal.code == pb.REFUSAL_CODE_DRAINING
        rig.engine.gate.set()
        session.send(undrain=pb.Undrain())
        session.send(**generate("after", "z"))
        await session.until(lambda one: one.finish("after"))
        kinds = [one.kind for one in session.of("leaving")]
        assert kinds == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_AWAKE]


async def test_announced_sleep_returns_everything_at_once(fleet: Fleet) -> None:
    """Sleeping is said before the requests come back; waking opens the doors again."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.availability.toggle_sleep()
        await session.until(lambda one: one.of("returned"))
        kinds = [event.WhichOneof("event") for event in session.events]
        assert kinds.index("leaving") < kinds.index("returned")
        rig.engine.gate.set()
        rig.worker.availability.wake()
        session.send(**generate("r2", "awake"))
        await session.until(lambda one: one.finish("r2"))


async def test_stop_drains_says_bye_and_ends(fleet: Fleet) -> None:
    """A stopped worker finishes what runs, says bye as its last word and exits with status 0."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        session.send(**generate("r1", "x" * 50))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        ended = await asyncio.wait_for(task, 60)
        assert ended == Ended(code=0, reason="enough")
        await asyncio.wait_for(session.ended.wait(), 60)
        assert session.text("r1") == "x" * 50
        assert [one.kind for one in session.of("leaving")] == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_BYE]


async def test_a_model_that_cannot_be_loaded_is_shown_failed_and_the_worker_stays(fleet: Fleet) -> None:
    """The error text reaches the router; the session lives on; a later LoadModel may succeed."""
    rig = Rig(fleet, model="/missing/model.gguf")
    async with running(rig):
        session = await fleet.session()
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_FAILED)
        assert "no such file" in session.of("model_progress")[-1].model.error
        session.send(load_model=pb.LoadModel(model="echo", path="there.file"))
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_READY)
        session.send(unload_model=pb.UnloadModel(model="echo", quantization="none"))
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_UNLOADED)


async def test_a_dead_engine_ends_its_requests_and_is_started_again(fleet: Fleet) -> None:
    """Running requests end with an error delta; the model says why it loads again, then is ready again."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        rig.engine.kill("segmentation fault")
        end = await session.until(lambda one: one.finish("r1"))
        assert end.finish_reason == pb.FINISH_REASON_ERROR
        assert "segmentation fault" in end.error
        told = lambda one: [progress.model for progress in one.of("model_progress")]  # noqa: E731
        died = lambda model: model.state == pb.MODEL_STATE_LOADING and "segmentation fault" in model.error  # noqa: E731
        await session.until(
            lambda one: any(died(model) for model in told(one)) and told(one)[-1].state == pb.MODEL_STATE_READY
        )
        assert len(rig.engines) == 2
        session.send(**generate("r2", "reborn"))
        await session.until(lambda one: one.finish("r2"))


async def test_an_engine_that_keeps_dying_ends_the_worker(fleet: Fleet) -> None:
    """Restarts are bounded; then the worker leaves with the reason and status 1."""
    rig = Rig(fleet)
    async with running(rig) as task:
        for number in range(1, 5):
            await ready(fleet)
            await until_changed(rig.engine_made, lambda number=number: len(rig.engines) >= number)
            rig.engine.kill("again")
        ended = await asyncio.wait_for(task, 60)
        assert ended.code == 1
        assert "keeps dying" in ended.reason


async def test_a_router_that_forgot_the_worker_lets_it_enrol_again(fleet: Fleet) -> None:
    """After UNAUTHENTICATED the worker enrols anew and comes back under its new id."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        fleet.known.clear()
        rig.worker._identity._enrolled_at = 0.0  # long ago
        session.hang_up()
        second = await ready(fleet, 2)
        assert second.hello.worker_id == "worker-2"


async def test_an_identity_of_an_earlier_life_that_is_dismissed_enrols_anew(fleet: Fleet) -> None:
    """A router that lost its store dismisses whom it does not know; on loopback the worker asks to be let in."""
    fleet.known.add("old")
    rig = Rig(fleet, worker_id="old")
    async with running(rig):
        session = await ready(fleet)
        session.send(dismiss=pb.Dismiss(reason="not enrolled here", permanent=True))
        await asyncio.wait_for(session.ended.wait(), 60)
        number = 2
        while (second := await fleet.session(number)).hello.worker_id == "old":
            number += 1
        assert second.hello.worker_id == "worker-1"


async def test_a_worker_turned_away_right_after_enrolling_gives_up(fleet: Fleet) -> None:
    """Asking for ever would help nobody: status 1 and the router's reason."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        fleet.known.clear()
        session.hang_up()
        ended = await asyncio.wait_for(task, 60)
        assert ended.code == 1
        assert "not known here" in ended.reason


async def test_a_permanent_dismissal_ends_the_worker(fleet: Fleet) -> None:
    """Revoked means gone: status 1 and the router's reason."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        session.send(dismiss=pb.Dismiss(reason="revoked by the operator", permanent=True))
        ended = await asyncio.wait_for(task, 60)
        assert ended.code == 1
        assert "revoked by the operator" in ended.reason
