"""The owner's say while a worker runs: a pause, kept in a file so that it outlasts the worker, and when work may be
taken; and the watch kept on both.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from workers.owner.conditions import Conditions, Door, When, price_s
from workers.serving.availability import Availability

POLL_S = 0.5
"""How often a running worker looks; a look is one stat of a local file."""

CONDITIONS_EVERY_S = 5.0
"""How often the machine's power and its owner's activity are looked at."""

POWER_EVERY_S = 15.0
"""The same where only the power matters."""

PAUSED = "paused by its owner"


class PauseFile:
    """There: this machine's owner wants no work taken. It holds for every worker with this state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "paused"

    @property
    def paused(self) -> bool:
        """Whether the owner paused. What cannot be looked at counts as a pause: the owner may have wanted it."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def pause(self) -> bool:
        """Wish it; False when it was wished before. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True

    def resume(self) -> bool:
        """Take it back; False when nothing was paused. Raises OSError."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


class ConditionWatch:
    """Looks now and then at what the machine does: may work be taken, and what does its owner ask for it (``asked_s``
    on battery and in low-power mode)? ``look_around`` blocks: it runs in a thread.
    """

    def __init__(
        self,
        when: When,
        look_around: Callable[[], Conditions],
        *,
        asked_s: float = 0.0,
        every_s: float = CONDITIONS_EVERY_S,
    ) -> None:
        self._door = Door(when)
        self._look_around = look_around
        self._asked_s = asked_s
        self._every_s = every_s
        self.reason = ""  # why no work is to be taken now
        self.price_s = 0.0  # what the owner asks now

    async def look(self) -> None:
        """Once."""
        now = await asyncio.to_thread(self._look_around)
        self.reason = self._door.look(now, time.monotonic())
        self.price_s = price_s(now, self._asked_s)

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.look()


class OwnerWatch:
    """Keeps a worker's door as its owner wishes. ``drain_s``: how long a pause lets running requests finish."""

    def __init__(
        self,
        pause: PauseFile,
        availability: Availability,
        *,
        drain_s: float,
        conditions: ConditionWatch | None = None,
        every_s: float = POLL_S,
    ) -> None:
        self._pause = pause
        self._availability = availability
        self._drain_s = drain_s
        self._conditions = conditions
        self._every_s = every_s

    @property
    def price_s(self) -> float:
        """Seconds by which a request must be better off here."""
        return self._conditions.price_s if self._conditions is not None else 0.0

    async def begin(self) -> None:
        """Before the first session opens, so that a worker whose owner wants it closed never stands open."""
        if self._conditions is not None:
            await self._conditions.look()
        self.look()

    def look(self) -> None:
        """Once, at the pause and at what is known of the conditions."""
        reason = PAUSED if self._pause.paused else self._conditions.reason if self._conditions is not None else ""
        if reason:
            self._availability.close_for_owner(reason, self._drain_s)
        else:
            self._availability.open_for_owner()

    async def follow(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._conditions is not None:
                tasks.create_task(self._conditions.follow(), name="conditions")
            while True:
                await asyncio.sleep(self._every_s)
                self.look()
