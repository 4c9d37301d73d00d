"""Rule: a machine that is about to sleep gives back what runs and waits until routers know; awake, it is back."""

import asyncio
import sys
from pathlib import Path

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.until import until_changed
from tests.unit.workers.serving.conftest import Rig, generate, running
from tests.unit.workers.serving.test_availability import answered, kinds
from workers.serving import sleep_watch
from workers.serving.sleep_watch import SleepWatch

SLEEPING, AWAKE = pb.LEAVING_KIND_SLEEPING, pb.LEAVING_KIND_AWAKE

PROGRAM = """
import sys, pathlib, time
folder = pathlib.Path(sys.argv[1])
def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.01)
wait_for("sleep")
print("sleep", flush=True)
(folder / "answer").write_text(sys.stdin.readline())
wait_for("wake")
print("wake", flush=True)
(folder / "ended").write_text(sys.stdin.read())
"""


@pytest.mark.timeout(60)
async def test_an_announced_sleep_moves_what_runs_and_only_then_lets_the_machine_go(tmp_path: Path) -> None:
    """The program that announces ends with its worker."""
    rig = Rig(sleep_program=(sys.executable, "-c", PROGRAM, str(tmp_path)))
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(**generate("old", "hello"))
        await session.until(lambda one: one.of("accepted"))
        (tmp_path / "sleep").touch()
        await session.until(lambda one: one.of("returned"))
        while not (tmp_path / "answer").exists() or not (tmp_path / "answer").read_text():
            await asyncio.sleep(0.01)
        assert (tmp_path / "answer").read_text() == "moved\n"
        said = [event.WhichOneof("event") for event in session.end.events]
        assert said.index("leaving") < said.index("returned")
        rig.engine.gate.set()
        (tmp_path / "wake").touch()
        await session.until(lambda one: kinds(one) == [SLEEPING, AWAKE])
        await answered(session, "after")
    assert (tmp_path / "ended").read_text() == ""


async def test_a_program_that_cannot_announce_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on without it."""
    monkeypatch.setattr(sleep_watch, "AGAIN_S", 0.05)
    told = tmp_path / "told"
    for program in (("/nope",), (sys.executable, "-c", f"open({str(told)!r}, 'a').write('x')")):
        rig = Rig(sleep_program=program)
        async with running(rig):
            session = await rig.session()
            await answered(session, "one")
            while program[0] != "/nope" and (not told.exists() or len(told.read_text()) < 2):
                await asyncio.sleep(0.01)
            await answered(session, "two")


async def test_a_sleep_that_nobody_announced_is_noticed_by_the_clocks() -> None:
    """The calls may be dead without knowing it: every router is dialled anew, and told that this worker is awake."""
    slept = {"s": 100.0}
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        worker = rig.worker
        watch = SleepWatch(worker.availability, worker._sessions, (), slept_s=lambda: slept["s"], tick_s=0.01)
        task = asyncio.create_task(watch.follow())
        try:
            worker.availability.sleep()
            await session.until(lambda one: kinds(one) == [SLEEPING])
            slept["s"] += 1.0  # less than a sleep: a clock that was corrected
            await asyncio.sleep(0.05)
            assert worker.availability.asleep
            slept["s"] += 7200.0
            again = await rig.session(2)
            await answered(again, "after")
            assert not worker.availability.asleep
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_for_a_router_is_flushed_but_not_for_ever() -> None:
    """A router that does not read holds up no sleep."""
    rig = Rig()
    async with running(rig):
        await rig.session()
        pool = rig.worker._sessions
        changed = asyncio.Event()
        changed.set()
        await until_changed(changed, lambda: all(one.has_said_all for one in pool))
        assert await pool.flushed(1.0)
        (session,) = pool
        session._writing = True
        assert not await pool.flushed(0.05)
        session._writing = False
