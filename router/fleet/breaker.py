"""Circuit breaker of one worker: failures close it off for a while, then one request at a time probes it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Pure value. ``open_until`` is monotonic; 0 failures mean closed."""

    first_s: float
    longest_s: float
    failures: int = 0
    open_until: float = 0.0
    reason: str = ""

    def failed(self, reason: str, now: float) -> "Breaker":
        """One more failure: stay away for twice as long as the last time, up to ``longest_s``. What fails while it is
        open already failed with what opened it: two hundred streams of one crash are one failure.
        """
        if now < self.open_until:
            return self
        pause = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 30))
        return replace(self, failures=self.failures + 1, open_until=now + pause, reason=reason)

    def succeeded(self) -> "Breaker":
        """A request went through: all is forgiven."""
        return self if self.failures == 0 else Breaker(first_s=self.first_s, longest_s=self.longest_s)

    @property
    def probing(self) -> bool:
        """Half-open once the pause is over: failures stand, so one request at a time."""
        return self.failures > 0
