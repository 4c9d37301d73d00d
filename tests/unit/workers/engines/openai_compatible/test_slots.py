"""How many jobs go to a server at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.openai_compatible.slot_gate import SlotGate
from workers.engines.openai_compatible.slot_window import FIRST, SlotWindow


def test_what_the_server_told_is_kept() -> None:
    """Neither good answers nor a full server change it: its owner knows."""
    window = SlotWindow(most=3, fixed=True)
    window.full(3)
    window.told(1, 5)
    window.told(1, 5)
    for _ in range(100):
        window.went_well(3)
    assert window.limit == 3


def test_an_unknown_server_gets_more_as_long_as_it_answers_well() -> None:
    """Only while the window is the limit: what was not tried says nothing."""
    window = SlotWindow(most=256)
    for _ in range(1000):
        window.went_well(window.limit - 1)
    assert window.limit == FIRST
    for _ in range(10_000):
        window.went_well(window.limit)
    assert window.limit == 256


def test_a_server_that_says_it_is_full_gets_less_at_once() -> None:
    window = SlotWindow(most=256)
    window.full(40)
    assert window.limit == 30
    for _ in range(20):
        window.full(1)
    assert window.limit == 1, "one always goes: else nobody would learn that there is room again"


def test_what_a_server_keeps_waiting_for_long_waits_here_instead() -> None:
    """One look is not enough: what has just arrived waits for a step, too."""
    window = SlotWindow(most=256)
    window.told(running=8, waiting=50)
    assert window.limit == FIRST
    window.told(running=8, waiting=50)
    assert window.limit == 8
    window.told(running=8, waiting=0)
    window.told(running=4, waiting=1)
    assert window.limit == 8


@given(st.integers(1, 300), st.lists(st.tuples(st.sampled_from(["well", "full", "told"]), st.integers(0, 400))))
def test_the_window_stays_within_its_bounds(most: int, events: list[tuple[str, int]]) -> None:
    window = SlotWindow(most=most)
    for kind, running in events:
        if kind == "well":
            window.went_well(running)
        elif kind == "full":
            window.full(running)
        else:
            window.told(running, running)
        assert 1 <= window.limit <= most


async def test_jobs_wait_in_turn_and_a_wider_window_lets_them_in() -> None:
    gate = SlotGate(SlotWindow(most=4, fixed=True, limit=1))
    order: list[int] = []
    hold = asyncio.Event()

    async def job(number: int) -> None:
        async with gate:
            order.append(number)
            await hold.wait()

    async with asyncio.TaskGroup() as jobs:
        for number in range(5):
            jobs.create_task(job(number))
        await asyncio.sleep(0)
        assert order == [0]
        assert not gate.open
        gate.window.limit = 3
        gate.wake()
        await asyncio.sleep(0)
        assert order == [0, 1, 2]
        hold.set()
    assert order == [0, 1, 2, 3, 4]
    assert gate.running == 0
    assert gate.open


@pytest.mark.parametrize("turn_came", [False, True])
async def test_a_job_that_leaves_while_it_waits_takes_no_slot(turn_came: bool) -> None:
    """Also when its turn came in the very moment in which it left."""
    gate = SlotGate(SlotWindow(most=1, fixed=True))

    async def job() -> None:
        async with gate:
            pass

    await gate.__aenter__()
    waiting = asyncio.create_task(job())
    await asyncio.sleep(0)
    if turn_came:
        await gate.__aexit__()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if not turn_came:
        await gate.__aexit__()
    assert gate.running == 0
    assert gate.open
