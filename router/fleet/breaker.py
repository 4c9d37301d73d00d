"""Circuit breaker of one worker: faults close it off for a while, then one request at a time proves it.

Two kinds of fault. A *failure* (a crash, a hang, an error) is forgiven by the next answer that goes through: a machine
that came back is as good as before. A *breach* is not: it spoke at the wrong token, charged for tokens it was not
asked for, or never ended an answer, and a worker that lies now and then is honest in between. It owes honest answers,
one at a time, and each further breach doubles what is still owed and the pause with it.
"""

from dataclasses import dataclass, replace

OWED_FOR_A_BREACH = 8
"""Honest answers owed for the first one. A worker that lies in more than one answer of so many never comes clean: what
it pays off between two lies is less than the second one adds.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Pure value. Times are monotonic seconds; nothing failed and nothing owed: closed.

    >>> once = Breaker(first_s=1.0, longest_s=30.0).failed("the connection broke", now=10.0)
    >>> once.open_until, once.probing
    (11.0, True)
    >>> once.succeeded(began_at=11.5).probing
    False
    >>> once.breached("it spoke at the wrong token", now=20.0).owed
    8
    """

    first_s: float
    longest_s: float
    failures: int = 0  # in a row
    owed: int = 0  # honest answers
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

    def breached(self, reason: str, now: float) -> "Breaker":
        """One more breach. Those that come to light while it is open for one are the same."""
        if now < self.open_until and self.owed > 0:
            return self
        owed = min(2 * self.owed + OWED_FOR_A_BREACH, self._most_owed)
        pause = min(self.longest_s, self._pause_s(owed))
        return replace(self, owed=owed, open_until=max(self.open_until, now + pause), reason=reason)

    def succeeded(self, began_at: float) -> "Breaker":
        """An answer went through, of a request sent at ``began_at``. Failures are forgiven; of what is owed it pays
        one, if it began after the pause: what was under way before says nothing new.
        """
        owed = self.owed - 1 if self.owed and began_at >= self.open_until else self.owed
        if owed == 0:
            return self if not self.probing else Breaker(first_s=self.first_s, longest_s=self.longest_s)
        return replace(self, failures=0, owed=owed)

    @property
    def probing(self) -> bool:
        """Half-open once the pause is over: something stands against it, so one request at a time."""
        return self.failures > 0 or self.owed > 0

    def _pause_s(self, owed: int) -> float:
        """``first_s`` for a first breach, twice that for a second one right after it, and so on."""
        return self.first_s * (owed + OWED_FOR_A_BREACH) / (2 * OWED_FOR_A_BREACH)

    @property
    def _most_owed(self) -> int:
        """Where the longest pause is reached: what stands against a worker has a bound, too."""
        return int(max(1.0, self.longest_s / self.first_s) * 2 * OWED_FOR_A_BREACH) - OWED_FOR_A_BREACH
