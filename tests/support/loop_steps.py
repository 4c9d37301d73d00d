"""A test fails when one step of the router's own held the event loop for more than 50 ms of processor time.

Twice, that is: the test is run once more (``tests/conftest.py``), and a stall of ours comes again.

A pytest plugin. Every callback that asyncio runs is timed by its thread's processor time, the garbage collector's
apart, so that a machine with much else to do fails nothing. A step counts as the router's when what runs is code of the
router: its tasks and callbacks, not a test that calls it.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

LIMIT_S = 0.05
TOO_LONG = "held the event loop for"
AGAIN = "loop_may_stall"
"""A marker for tests whose subject is a slow step."""


class LoopSteps:
    """Registered once for the run."""

    def __init__(self) -> None:
        self._long: list[str] = []
        self._collecting_since = 0.0
        self._collected_s = 0.0
        self._run = asyncio.Handle._run
        gc.callbacks.append(self._collector)
        asyncio.Handle._run = self._timed()  # type: ignore[method-assign]

    def _timed(self) -> Any:
        run, clock = self._run, time.thread_time

        def timed(handle: asyncio.Handle) -> None:
            collected, began = self._collected_s, clock()
            try:
                run(handle)
            finally:
                took = clock() - began - (self._collected_s - collected)
                if took > LIMIT_S and (name := _of_the_router(handle)):
                    self._long.append(f"{name} {TOO_LONG} {took:.3f} s")

        return timed

    def _collector(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            self._collected_s += time.thread_time() - self._collecting_since

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self._long.clear()
        yield
        if self._long and item.get_closest_marker(AGAIN) is None:
            pytest.fail("; ".join(self._long))


def _of_the_router(handle: asyncio.Handle) -> str:
    """The name of what ran, if that is the router's; empty for all else."""
    callback: Any = handle._callback
    while isinstance(callback, partial):
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    code: Any = None
    if isinstance(owner, asyncio.Task):
        coroutine: Any = owner.get_coro()
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    else:
        code = getattr(callback, "__code__", None) or getattr(getattr(callback, "__func__", None), "__code__", None)
    file = getattr(code, "co_filename", "")
    return (
        f"{code.co_qualname} ({file.rpartition('/router/')[2]})" if "/router/" in file and "/tests/" not in file else ""
    )
