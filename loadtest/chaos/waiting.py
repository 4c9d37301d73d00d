"""Waiting for a state, within a bound: what does not come in time is named in one line, which fails the row."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LOOK_EVERY_S = 0.1


class NotReached(Exception):
    """What did not come true in time; its text is the line."""


def not_reached(what: str, within_s: float) -> NotReached:
    """The line."""
    return NotReached(f"{what}: not within {within_s:g} s")


async def until(
    reached: Callable[[], Awaitable[bool]], within_s: float, what: str, check: Callable[[], None] = lambda: None
) -> None:
    """Ask other processes again and again. ``check`` may raise why it never will. Raises NotReached."""
    deadline = time.monotonic() + within_s
    while not await reached():
        check()
        if time.monotonic() > deadline:
            raise not_reached(what, within_s)
        await asyncio.sleep(LOOK_EVERY_S)
