"""How fast a draft answers, and when it is not asked any more: it is late again and again, away, or lies. Pure.

A pause ends by itself: after it, one question that nobody waits for shows whether the draft is back. Pauses grow while
it is not.
"""

import statistics
from collections import deque
from dataclasses import dataclass, field

from workers.speculation.drafter import Costs

KEPT_ROUNDS = 64
"""Of which the round trip's 95th percentile is taken."""

TOKEN_WEIGHT = 0.1

LATE_IN_A_ROW = 3
"""Rounds that came late, one after the other, before it is left alone."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LIE_PAUSE_S = 30.0
"""After it said something that no honest draft says."""


@dataclass(slots=True)
class Pace:
    """Of one draft. ``now`` is monotonic, in seconds."""

    rounds: int = 0
    late: int = 0
    token_s: float = 0.0
    paused: str = ""
    until: float = 0.0  # it is left alone
    _trips: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_ROUNDS))
    _row: int = 0
    _pause_s: float = 0.0
    _rtt_s: float = 0.0

    @property
    def known(self) -> bool:
        """Whether it ever answered."""
        return self.token_s > 0.0

    @property
    def rtt_s(self) -> float:
        """95th percentile of a round trip beside the draft's compute; 0 before the first."""
        return self._rtt_s

    @property
    def usual_trip_s(self) -> float:
        """Median of the same."""
        return statistics.median(self._trips) if self._trips else 0.0

    @property
    def costs(self) -> Costs:
        """As the governor takes them."""
        return Costs(self.token_s, self._rtt_s, self.paused)

    def may_ask(self, now: float) -> bool:
        """Whether it is asked at all now, at least without being waited for."""
        return now >= self.until

    def computed(self, tokens: int, compute_s: float) -> None:
        """It made so many tokens in so long."""
        if tokens > 0 and compute_s > 0.0:
            each = compute_s / tokens
            self.token_s = each if not self.known else self.token_s + TOKEN_WEIGHT * (each - self.token_s)

    def answered(self, trip_s: float) -> None:
        """A question was answered after ``trip_s`` beside the draft's compute."""
        self._trips.append(max(trip_s, 0.0))
        ordered = sorted(self._trips)
        self._rtt_s = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        self._row, self._pause_s, self.paused, self.until = 0, 0.0, "", 0.0

    def round_over(self, now: float, *, in_time: bool) -> None:
        """A round that was waited for is over."""
        self.rounds += 1
        if in_time:
            self._row = 0
            return
        self.late += 1
        self._row += 1
        if self._row >= LATE_IN_A_ROW:
            self.pause(now, f"late {self._row} times in a row")

    def pause(self, now: float, why: str, *, lied: bool = False) -> None:
        """It is left alone for a while, longer each time until it answers again."""
        if now < self.until and not lied:
            return
        self._pause_s = LIE_PAUSE_S if lied else min(max(2.0 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self.paused, self.until = why, now + self._pause_s
