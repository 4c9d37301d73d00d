"""The owner's pause: a file in the state directory, so that it outlasts the worker, and the watch kept on it."""

import asyncio
import os
from pathlib import Path

from workers.serving.availability import Availability

POLL_S = 0.5
"""How often a running worker looks; a look is one stat of a local file."""

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


class OwnerWatch:
    """Keeps a worker's door as its owner wishes. ``drain_s``: how long a pause lets running requests finish."""

    def __init__(
        self, pause: PauseFile, availability: Availability, *, drain_s: float, every_s: float = POLL_S
    ) -> None:
        self._pause = pause
        self._availability = availability
        self._drain_s = drain_s
        self._every_s = every_s

    def look(self) -> None:
        """Once: before the first session opens, so that a paused worker never stands open."""
        if self._pause.paused:
            self._availability.close_for_owner(PAUSED, self._drain_s)
        else:
            self._availability.open_for_owner()

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            self.look()
