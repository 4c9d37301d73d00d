"""A bucket of requests or tokens that refills steadily and holds one minute's worth. Pure; the caller has the clock."""

import math
from dataclasses import dataclass
from typing import Self

WINDOW_S = 60.0
"""Seconds in which an empty bucket fills."""


@dataclass(slots=True)
class TokenBucket:
    """May go below zero: what a request costs is known only afterwards, or is more than the bucket holds.

    >>> bucket = TokenBucket.full(600, now=0.0)
    >>> bucket.spend(600)
    >>> bucket.wait_s(10)
    1.0
    >>> bucket.refill(now=1.0)
    >>> bucket.wait_s(10)
    0.0
    """

    per_minute: float
    level: float
    at: float  # seconds, of the last refill
    spent: float = 0.0  # since whoever shares this bucket was last told

    @classmethod
    def full(cls, per_minute: float, now: float) -> Self:
        """A bucket nobody used yet."""
        return cls(per_minute, float(per_minute), now)

    def refill(self, now: float) -> None:
        """Catch up with the clock."""
        self.level = min(float(self.per_minute), self.level + max(0.0, now - self.at) * self.per_minute / WINDOW_S)
        self.at = now

    def spend(self, amount: float, *, max_debt_s: float = math.inf) -> None:
        """Take ``amount``, into debt if need be. ``max_debt_s``: the longest time until the debt is paid."""
        before = self.level
        self.level = max(self.level - amount, -self.per_minute * max_debt_s / WINDOW_S)
        self.spent += before - self.level

    def wait_s(self, amount: float) -> float:
        """Seconds until ``amount`` is there; 0 when it is. More than the bucket holds counts as all it holds."""
        return max(0.0, (min(amount, self.per_minute) - self.level) * WINDOW_S / self.per_minute)

    @property
    def is_full(self) -> bool:
        """Whether it is as good as new."""
        return self.level >= self.per_minute
