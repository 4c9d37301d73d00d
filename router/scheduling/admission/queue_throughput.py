"""How fast the queue of a model empties, measured while it is one: the ground of an honest Retry-After.

Time in which nobody waits tells nothing of how fast a queue would go, and neither does a request that found room when
nobody waited; so both are left out. What is known of the last busy spell is kept for a while, the next one begins with
it.
"""

import math

MEMORY_S = 10.0
"""The rate is an average over about so many seconds in which somebody waited."""

FORGET_S = 60.0
"""After so long without a queue the pool may have become another."""

LEAST_S = 0.5
"""Of a busy spell, before its rate is believed."""


LONGEST_S = 3600.0
"""Nobody is told to wait longer."""


class QueueThroughput:
    """Counts tokens in the queue and tokens that left it for a worker. Times are those of the router's clock.

    >>> rate = QueueThroughput()
    >>> for second in range(10):
    ...     rate.queued(200.0, float(second))
    ...     rate.left(100.0, second + 0.5, waited=True)
    >>> 8 < rate.wait_s(10.0) < 12  # 1,000 tokens wait, about 100 leave each second
    True
    """

    def __init__(self) -> None:
        self._queued_tokens = 0.0
        self._rate = 0.0  # tokens per second, decayed
        self._departures = 0.0  # of requests, decayed as the rate is: how much it is known from
        self._busy_s = 0.0  # seconds the rate was measured over
        self._seen_at = -math.inf

    def queued(self, tokens: float, now: float) -> None:
        """A request joined the queue."""
        if self._queued_tokens <= 0.0 and now - self._seen_at > FORGET_S:
            self._rate = self._departures = self._busy_s = 0.0
        self._advance(now)
        self._queued_tokens += tokens

    @property
    def empty(self) -> bool:
        """Nobody waits."""
        return self._queued_tokens <= 0.0

    def gave_up(self, tokens: float) -> None:
        """A request left without being served."""
        self._queued_tokens = max(self._queued_tokens - tokens, 0.0)

    def left(self, tokens: float, now: float, *, waited: bool) -> None:
        """A request went to a worker."""
        self._advance(now)
        self.gave_up(tokens)
        if waited or self._queued_tokens > 0.0:
            self._rate += tokens / MEMORY_S
            self._departures += 1.0

    def wait_s(self, now: float, ahead: float | None = None) -> float:
        """Seconds until ``ahead`` tokens, by default all that are queued, have left; 0 while nothing is known."""
        self._advance(now)
        tokens = self._queued_tokens if ahead is None else ahead
        if tokens <= 0.0 or self._busy_s < LEAST_S:
            return 0.0
        if self._rate <= 0.0:
            return self._busy_s  # nothing left in so long: as long again is the least to expect
        filled = 1.0 - math.exp(-self._busy_s / MEMORY_S)  # the decayed sum fills up in the first seconds
        return min(tokens * filled / self._rate, LONGEST_S)

    def least_wait_s(self, now: float, ahead: float) -> float:
        """Seconds that ``ahead`` tokens will wait at least, as far as the departures seen so far can tell.

        A queue before slots that just filled sees its first departure only when the first answer ends, and then many:
        from few departures the rate is hardly known. Where n of a Poisson process were seen, its mean may well be
        n + √n + 1, one standard deviation above: three times as many after one departure, a tenth more after a hundred.
        """
        wait = self.wait_s(now, ahead)
        if self._rate <= 0.0:
            return wait
        seen = self._departures
        return wait * seen / (seen + math.sqrt(seen) + 1.0)

    def _advance(self, now: float) -> None:
        """Time passes; it counts only while somebody waits."""
        if self._queued_tokens > 0.0 and now > self._seen_at:
            passed = now - self._seen_at
            kept = math.exp(-passed / MEMORY_S)
            self._rate *= kept
            self._departures *= kept
            self._busy_s = min(self._busy_s + passed, 100.0 * MEMORY_S)
        self._seen_at = max(self._seen_at, now)
