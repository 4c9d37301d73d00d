"""How often streams are written: every turn of the loop, unless writing takes half of the time."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from router.http.streaming import outflow as room
from router.http.streaming.outflow import MOST_REST_S, Outflow


class _Loop:
    """Remembers what it is to call, and in how many seconds."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append((0.0, call))

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.due.append((delay_s, call))


class _Slow:
    """A stream whose write takes so long."""

    def __init__(self, clock: list[float], takes_s: float) -> None:
        self.clock = clock
        self.takes_s = takes_s

    def flush(self) -> None:
        self.clock[0] += self.takes_s


@pytest.mark.parametrize(("takes_s", "rest_s"), [(0.004, 0.004), (1.0, MOST_REST_S), (0.0, 0.0)])
def test_writing_rests_for_as_long_as_it_took_and_no_longer_than_a_token_may_wait(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, rest_s: float
) -> None:
    """What comes in between goes out together; who comes after the rest is written at once."""
    clock, loop, outflow = [100.0], _Loop(), Outflow()
    monkeypatch.setattr(room, "monotonic", lambda: clock[0])
    monkeypatch.setattr(room, "thread_time", lambda: clock[0])
    outflow._loop = cast("asyncio.AbstractEventLoop", loop)
    one = _Slow(clock, takes_s)
    outflow.add(one)
    outflow.add(_Slow(clock, 0.0))
    (delay_s, flush), *others = loop.due
    assert (delay_s, others) == (0.0, [])  # one call for both
    flush()
    outflow.add(one)
    assert loop.due[-1][0] == pytest.approx(rest_s)
    loop.due[-1][1]()
    clock[0] += 1.0
    outflow.add(one)
    assert loop.due[-1][0] == 0.0


def test_time_that_others_had_the_processor_is_no_reason_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine tokens would else wait for what was not the router's doing."""
    clock, loop, outflow = [100.0], _Loop(), Outflow()
    monkeypatch.setattr(room, "monotonic", lambda: clock[0])
    monkeypatch.setattr(room, "thread_time", lambda: 5.0)
    outflow._loop = cast("asyncio.AbstractEventLoop", loop)
    one = _Slow(clock, 0.5)
    outflow.add(one)
    loop.due[-1][1]()
    outflow.add(one)
    assert loop.due[-1][0] == 0.0
