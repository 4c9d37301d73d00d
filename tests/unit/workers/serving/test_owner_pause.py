"""Rule: what the owner closed only the owner opens; routers are told, and what runs finishes or moves."""

import asyncio
import stat
from pathlib import Path

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.unit.workers.serving.conftest import Rig, generate, running
from tests.unit.workers.serving.test_availability import answered, kinds, refused
from workers.owner.conditions import Conditions, When
from workers.serving.owner_pause import PAUSED, ConditionWatch, PauseFile

DRAINING, AWAKE, SLEEPING = pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_AWAKE, pb.LEAVING_KIND_SLEEPING


def returning() -> list[str]:
    """Tasks that wait to give back what runs."""
    return [one.get_name() for one in asyncio.all_tasks() if one.get_name().startswith("return: ")]


@pytest.fixture
def pause(tmp_path: Path) -> PauseFile:
    return PauseFile(tmp_path / "state")


def test_a_pause_is_a_private_file_and_says_whether_it_changed_anything(pause: PauseFile) -> None:
    """The folder is made where there is none yet; twice is as good as once."""
    assert not pause.paused
    assert [pause.pause(), pause.paused, pause.pause()] == [True, True, False]
    assert stat.S_IMODE(pause.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(pause.path.parent.stat().st_mode) == 0o700
    assert [pause.resume(), pause.paused, pause.resume()] == [True, False, False]


def test_what_cannot_be_looked_at_counts_as_a_pause(tmp_path: Path) -> None:
    """A state directory that is a file: the owner may have wished it, and cannot be asked."""
    (tmp_path / "state").write_text("not a folder")
    broken = PauseFile(tmp_path / "state")
    assert broken.paused
    with pytest.raises(OSError, match="state"):
        broken.pause()


async def test_a_running_worker_hears_a_pause_and_a_resume(pause: PauseFile) -> None:
    """Every router is told why."""
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        await answered(session, "before")
        pause.pause()
        await session.until(lambda one: one.of("leaving"))
        refusal = await refused(session, "meanwhile")
        assert (refusal.code, PAUSED in refusal.message) == (pb.REFUSAL_CODE_DRAINING, True)
        assert session.of("leaving")[0].reason == PAUSED
        pause.resume()
        await session.until(lambda one: len(one.of("leaving")) == 2)
        await answered(session, "after")
        assert kinds(session) == [DRAINING, AWAKE]


async def test_a_pause_outlasts_the_worker(pause: PauseFile) -> None:
    """One that starts while it holds loads its models, but never stands open."""
    pause.pause()
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        session.send(ping=pb.Ping(sequence=7))
        await session.until(lambda one: one.of("pong"))
        assert kinds(session) == [DRAINING]  # with the session's opening, not at some later look
        assert PAUSED in (await refused(session, "new")).message
        pause.resume()
        await session.until(lambda one: len(one.of("leaving")) == 2)
        await answered(session, "after")


async def test_what_runs_at_a_pause_moves_once_its_time_is_up(pause: PauseFile) -> None:
    """As with a stop: after ``drain_s``."""
    rig = Rig(pause=pause, drain_s=0.0)
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        pause.pause()
        await session.until(lambda one: one.of("returned"))
        said = [event.WhichOneof("event") for event in session.end.events]
        assert said.index("leaving") < said.index("returned")
        rig.engine.gate.set()


async def test_a_resume_in_time_lets_what_runs_go_on(pause: PauseFile) -> None:
    """The pause is forgotten with its deadline."""
    rig = Rig(pause=pause, drain_s=3600.0)
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        pause.pause()
        await session.until(lambda one: one.of("leaving"))
        assert returning() == [f"return: {PAUSED}"]
        pause.resume()
        await session.until(lambda one: len(one.of("leaving")) == 2)
        await asyncio.sleep(0)  # what was cancelled ends
        assert returning() == []
        rig.engine.gate.set()
        await session.until(lambda one: one.finish("old"))
        assert session.of("returned") == []


async def test_an_operators_undrain_does_not_lift_a_pause(pause: PauseFile) -> None:
    """The router, which believes the worker open, is told again; a drain's deadline goes, the pause's stays."""
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        pause.pause()
        await session.until(lambda one: one.of("leaving"))
        session.send(drain=pb.Drain(deadline_s=3600.0))
        session.send(undrain=pb.Undrain())
        await session.until(lambda one: len(one.of("leaving")) == 3)
        assert [one.reason for one in session.of("leaving")] == [PAUSED, "drained by the operator", PAUSED]
        assert PAUSED in (await refused(session, "new")).message


async def test_an_owners_resume_does_not_lift_a_drain(pause: PauseFile) -> None:
    """Whichever came first."""
    for drain_first in (True, False):
        rig = Rig(pause=pause)
        async with running(rig):
            session = await rig.session()
            for number, drains in enumerate((drain_first, not drain_first), start=1):
                if drains:
                    session.send(drain=pb.Drain(deadline_s=3600.0))
                else:
                    pause.pause()
                await session.until(lambda one, n=number: len(one.of("leaving")) == n)
            pause.resume()
            await session.until(lambda one: len(one.of("leaving")) == 3)
            assert "drained by the operator" in (await refused(session, "new")).message
            session.send(undrain=pb.Undrain())
            await answered(session, "after")


async def test_a_pause_outlasts_a_sleep(pause: PauseFile) -> None:
    """Whether it came before the sleep or during it."""
    for pause_first in (True, False):
        rig = Rig(pause=pause)
        async with running(rig):
            session = await rig.session()
            for pauses in (pause_first, not pause_first):
                if pauses:
                    pause.pause()
                    rig.worker.availability.close_for_owner(PAUSED, 1.0)  # as the watch would at its next look
                else:
                    rig.worker.availability.toggle_sleep()
            rig.worker.availability.wake()
            await session.until(lambda one: one.of("leaving") and one.of("leaving")[-1].reason == PAUSED)
            assert SLEEPING in kinds(session)
            assert PAUSED in (await refused(session, "new")).message
        pause.resume()


async def test_a_worker_that_is_stopping_is_not_resumed(pause: PauseFile) -> None:
    """It was told to end: the owner's later wish opens nothing."""
    pause.pause()
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        rig.worker.stop("enough")
        rig.worker.availability.open_for_owner()
        assert AWAKE not in kinds(session)


async def test_a_pause_is_told_once_however_often_it_is_seen(pause: PauseFile) -> None:
    """The watch looks twice a second for as long as it lasts."""
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        for _ in range(5):
            rig.worker.availability.close_for_owner(PAUSED, 1.0)
        rig.worker.availability.open_for_owner()
        rig.worker.availability.open_for_owner()
        await session.until(lambda one: len(one.of("leaving")) >= 2)
        await answered(session, "after")
        assert kinds(session) == [DRAINING, AWAKE]


async def test_nothing_of_a_pause_is_told_while_the_machine_sleeps(pause: PauseFile) -> None:
    """Asleep is what it is until it wakes: neither a pause nor a resume says otherwise."""
    rig = Rig(pause=pause)
    async with running(rig):
        session = await rig.session()
        availability = rig.worker.availability
        availability.toggle_sleep()
        availability.close_for_owner(PAUSED, 3600.0)
        assert returning() == []
        availability.open_for_owner()
        assert "the machine goes to sleep" in (await refused(session, "new")).message
        assert kinds(session) == [SLEEPING]
        availability.wake()
        await session.until(lambda one: len(one.of("leaving")) == 2)
        await answered(session, "after")
        assert kinds(session) == [SLEEPING, AWAKE]


async def test_a_worker_takes_work_when_its_owner_said(pause: PauseFile) -> None:
    """It never stands open on battery; a pause beside that stays when the plug is back."""
    now = {"battery": True}
    conditions = ConditionWatch(When.PLUGGED_IN, lambda: Conditions(on_battery=now["battery"]), every_s=0.02)
    rig = Rig(pause=pause, conditions=conditions)
    async with running(rig):
        session = await rig.session()
        refusal = await refused(session, "on battery")
        assert "on battery" in refusal.message
        assert session.of("leaving")[0].reason == "on battery"
        now["battery"] = False
        await session.until(lambda one: kinds(one) == [DRAINING, AWAKE])
        await answered(session, "plugged in")
        now["battery"] = True
        await session.until(lambda one: kinds(one) == [DRAINING, AWAKE, DRAINING])
        pause.pause()
        await session.until(lambda one: one.of("leaving")[-1].reason == PAUSED)
        now["battery"] = False
        await asyncio.sleep(0.1)
        assert PAUSED in (await refused(session, "paused")).message
        pause.resume()
        await session.until(lambda one: kinds(one)[-1] == AWAKE)


async def test_on_battery_routers_hear_what_the_owner_asks(pause: PauseFile) -> None:
    """With the load, and no more once the plug is in; the door stands open."""
    now = {"battery": True}
    conditions = ConditionWatch(When.ALWAYS, lambda: Conditions(on_battery=now["battery"]), asked_s=5.0, every_s=0.02)
    rig = Rig(pause=pause, conditions=conditions)
    async with running(rig):
        session = await rig.session()
        assert session.hello.load.price_s == 5.0
        await answered(session, "dear")
        now["battery"] = False
        await session.until(lambda one: any(step.HasField("load") and not step.load.price_s for step in one.of("step")))
        assert kinds(session) == []
