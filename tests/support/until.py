"""Waiting in tests. Where the code has an event, wait for that; another process, a library's server and an engine's
counters have none: look again and again, within a bound that says what did not come.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

WITHIN_S = 60.0
"""It is there to end what hangs, not to measure: on two busy cores a process may take 20 s to start."""

LOOK_EVERY_S = 0.02

Missing = str | Callable[[], object]
"""What did not come: words, or how to describe what there is instead."""


def until(reached: Callable[[], Any], missing: Missing = "", *, within_s: float = WITHIN_S) -> Any:
    """Look until ``reached()`` is true; gives back what it said. AssertionError when it is not in ``within_s``."""
    deadline = time.monotonic() + within_s
    while not (found := reached()):
        assert time.monotonic() < deadline, _unmet(missing, within_s)
        time.sleep(LOOK_EVERY_S)
    return found


async def until_async(
    reached: Callable[[], Any | Awaitable[Any]],
    missing: Missing = "",
    *,
    within_s: float = WITHIN_S,
    every_s: float = LOOK_EVERY_S,
) -> Any:
    """The same in a coroutine; ``reached`` may be a coroutine function. ``every_s`` 0: at every turn of the loop."""
    deadline = time.monotonic() + within_s
    while not (found := await _value(reached())):
        assert time.monotonic() < deadline, _unmet(missing, within_s)
        await asyncio.sleep(every_s)
    return found


async def until_changed(changed: asyncio.Event, reached: Callable[[], Any], *, within_s: float = WITHIN_S) -> Any:
    """Look whenever ``changed`` is set, which whoever changes something does; TimeoutError after ``within_s``."""
    async with asyncio.timeout(within_s):
        while not (found := reached()):
            changed.clear()
            await changed.wait()
    return found


async def _value(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _unmet(missing: Missing, within_s: float) -> str:
    return f"not within {within_s:g} s: {missing() if callable(missing) else missing}"
