"""Time as a collaborator, so that tests and the simulator decide what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for durations and a wall clock for what people read."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean something."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()


class ManualClock:
    """A clock that moves only when told to. Ships, because the simulator runs on it."""

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by ``seconds``; raises ValueError when negative."""
        if seconds < 0:
            raise ValueError(f"a clock only moves forward, not by {seconds} s")
        self._now += seconds
        self._wall += seconds

    def set(self, now: float) -> None:
        """Move to monotonic second ``now``; raises ValueError when that lies in the past."""
        self.advance(now - self._now)
        self._now = now  # adding the difference may round beyond it; what is due then would lie in the past
