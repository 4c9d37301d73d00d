"""Rule: on one machine one measures and nobody loads meanwhile; who is dead holds nothing, who hangs not for ever."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.neighbours.place import VARIABLE, left, made, meeting_place
from workers.neighbours.turns import MachineTurns

HOLDER = """
import asyncio, sys
from pathlib import Path
from workers.neighbours.turns import MachineTurns
async def hold():
    async with MachineTurns(Path(sys.argv[1])).measuring() as had:
        print(had, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(hold())
"""


def holder(folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


async def test_two_that_measure_take_turns_and_the_second_hears_why_it_waits(tmp_path: Path) -> None:
    """Never both at once; a wait is told once."""
    inside: list[str] = []
    said: list[str] = []

    async def measure(name: str) -> None:
        async with MachineTurns(tmp_path).measuring(said.append) as had:
            assert had
            assert not inside
            inside.append(name)
            await asyncio.sleep(0.3)
            inside.remove(name)

    await asyncio.gather(measure("one"), measure("two"), measure("three"))
    assert len(said) == 2
    assert "measured: waiting" in said[0]


async def test_loads_run_beside_one_another_and_a_measurement_waits_for_them(tmp_path: Path) -> None:
    """Eight models on eight cards load at once."""
    turns = MachineTurns(tmp_path)
    order: list[str] = []
    async with turns.loading() as first, turns.loading() as second:
        assert first
        assert second

        async def measure() -> None:
            async with turns.measuring() as had:
                assert had
                order.append("measured")

        waiting = asyncio.create_task(measure())
        await asyncio.sleep(0.3)
        order.append("loaded")
    await waiting
    assert order == ["loaded", "measured"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path, number: int) -> None:
    """Whatever ends it, the kernel gives its turn to the next."""
    process = holder(tmp_path)
    try:
        turn = MachineTurns(tmp_path).measuring()
        waiting = asyncio.create_task(turn.__aenter__())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        process.send_signal(number)
        assert await asyncio.wait_for(waiting, 60) is True
        await turn.__aexit__(None, None, None)
    finally:
        process.kill()
        process.communicate()


async def test_a_holder_that_hangs_is_waited_for_no_longer_than_the_bound(tmp_path: Path) -> None:
    """Stopped in the middle of its measurement: the next goes ahead, and knows that it was not alone."""
    process = holder(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        for turn in (MachineTurns(tmp_path, wait_s=0.3).measuring(), MachineTurns(tmp_path, wait_s=0.3).loading()):
            async with turn as had:
                assert had is False
    finally:
        process.kill()
        process.communicate()


async def test_where_there_is_no_such_folder_everything_goes_on_without_turns(tmp_path: Path) -> None:
    """A file in its place, a link to elsewhere, a folder nobody may write to: not had, never an error."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path / "file", tmp_path / "link", Path("/proc/allsorts")):
        async with MachineTurns(folder).measuring() as had:
            assert had is False


async def test_a_turn_that_is_cancelled_is_free_again(tmp_path: Path) -> None:
    """While waiting, and while held."""
    turns = MachineTurns(tmp_path)

    async def measure() -> None:
        async with turns.measuring():
            await asyncio.sleep(60)

    holds, waits = asyncio.create_task(measure()), asyncio.create_task(measure())
    await asyncio.sleep(0.3)
    for task in (waits, holds):
        task.cancel()
    await asyncio.gather(holds, waits, return_exceptions=True)
    async with turns.measuring() as had:
        assert had


def test_every_user_may_add_to_the_meeting_place_and_only_its_owner_takes_away(tmp_path: Path) -> None:
    """As in /tmp; it can be named."""
    folder = made(tmp_path / "deep" / "place")
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert made(folder) == folder
    assert meeting_place({VARIABLE: str(folder)}) == folder
    assert meeting_place({}).name == "allsorts"
    assert os.access(meeting_place({}).parent, os.W_OK)


async def test_who_leaves_the_machine_takes_its_locks_away_and_nobody_s_turn(tmp_path: Path) -> None:
    """Nothing is left where nobody is; a lock that is held stays, and so does what is not a lock."""
    folder = tmp_path / "machine"
    turns = MachineTurns(folder)
    async with turns.measuring():
        left(folder)
        async with MachineTurns(folder, wait_s=0.2).measuring() as had:
            assert had is False
    left(folder)
    assert not folder.exists()
    made(folder)
    (folder / "1-a.share").write_text("another user's")
    left(folder)
    assert [one.name for one in folder.iterdir()] == ["1-a.share"]
    left(tmp_path / "nowhere")


async def test_a_lock_that_was_taken_away_meanwhile_keeps_nobody_out(tmp_path: Path) -> None:
    """Whoever waited for it takes the one that is there now: two never hold two of them."""
    turns = MachineTurns(tmp_path)
    async with turns.measuring():
        (tmp_path / "turn.lock").unlink()
        async with MachineTurns(tmp_path, wait_s=1).measuring() as had:
            assert had
            inner = (tmp_path / "turn.lock").stat().st_ino
            left(tmp_path)
            assert (tmp_path / "turn.lock").stat().st_ino == inner
