"""A step that holds the event loop is seen while it does, with its name; a machine that is slow is not."""

import asyncio
import time

import pytest
import structlog

from router.telemetry.loop_watch import LIMIT_S, LoopWatch


def busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1000))


async def test_a_long_step_is_told_with_its_culprit() -> None:
    """Seconds to the metric, the place to the log."""
    stalls: list[float] = []
    watch = LoopWatch(stalls.append)
    with structlog.testing.capture_logs() as lines:
        watch.start()
        await asyncio.sleep(0.05)
        busy(0.3)
        await asyncio.sleep(0.05)
        watch.stop()
    (stall,) = stalls
    assert stall > 0.2
    (line,) = lines
    assert line["event"] == "loop.stalled"
    assert "busy" in line["culprit"]


async def test_short_steps_and_sleep_are_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the process was kept waiting."""
    stalls: list[float] = []
    watch = LoopWatch(stalls.append)
    watch.start()
    for _ in range(5):
        busy(LIMIT_S / 10)
        await asyncio.sleep(0.005)
    time.sleep(0.2)  # the machine does something else
    await asyncio.sleep(0.05)
    watch.stop()
    watch.stop()
    assert stalls == []
