"""Requests and tokens per minute of one key: token buckets that refill steadily, on an injected clock."""

from dataclasses import dataclass

WINDOW_S = 60.0

LONGEST_DEBT_S = 3600.0
"""Tokens are counted by workers, after the fact: no count, however wrong, locks a key out for longer than this."""


@dataclass(slots=True)
class Bucket:
    """Holds up to ``limit`` and refills that much a minute. May go below zero: tokens are known only afterwards."""

    limit: int
    level: float
    at: float

    def refill(self, now: float) -> None:
        """Catch up with the clock."""
        self.level = min(float(self.limit), self.level + max(0.0, now - self.at) * self.limit / WINDOW_S)
        self.at = now

    def spend(self, amount: float) -> None:
        """Take what was used, into debt if need be."""
        self.level = max(self.level - amount, -self.limit * LONGEST_DEBT_S / WINDOW_S)

    def wait_s(self, amount: float) -> float:
        """Seconds until ``amount`` is there; 0 when it is."""
        return max(0.0, (min(amount, self.limit) - self.level) * WINDOW_S / self.limit)

    def full_in_s(self) -> float:
        """Seconds until it is full again: OpenAI's ``reset``."""
        return max(0.0, (self.limit - self.level) * WINDOW_S / self.limit)

    @property
    def remaining(self) -> int:
        """Whole units left."""
        return max(0, int(self.level))


def full_bucket(limit: int, now: float) -> Bucket:
    """A bucket nobody used yet."""
    return Bucket(limit=limit, level=float(limit), at=now)


def as_duration(seconds: float) -> str:
    """As OpenAI writes it: ``12ms``, ``1.2s``, ``6m0s``."""
    if seconds < 1.0:
        return f"{seconds * 1000:.0f}ms"
    if seconds < WINDOW_S:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"
