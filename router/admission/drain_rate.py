"""How fast the queue empties, measured: the ground of an honest Retry-After."""

import math

MEMORY_S = 10.0
"""The rate is an average over about so long."""


class DrainRate:
    """Counts tokens in the queue and tokens that left it for a worker."""

    def __init__(self) -> None:
        self._queued_tokens = 0.0
        self._rate = 0.0  # tokens per second, decayed
        self._seen_at: float | None = None
        self._started_at = 0.0

    def queued(self, tokens: float) -> None:
        """A request joined the queue."""
        self._queued_tokens += tokens

    def gave_up(self, tokens: float) -> None:
        """A request left without being served."""
        self._queued_tokens = max(self._queued_tokens - tokens, 0.0)

    def left(self, tokens: float, now: float) -> None:
        """A request went to a worker."""
        self._queued_tokens = max(self._queued_tokens - tokens, 0.0)
        if self._seen_at is None:
            self._started_at = self._seen_at = now
        self._rate = self._rate * math.exp(-(now - self._seen_at) / MEMORY_S) + tokens / MEMORY_S
        self._seen_at = now

    def wait_s(self, own_tokens: float) -> float:
        """Seconds until what is queued, less one's own tokens, has left; 0 while nothing is known."""
        ahead = max(self._queued_tokens - own_tokens, 0.0)
        if self._seen_at is None or ahead <= 0.0:
            return 0.0
        # The decayed sum has not filled up yet in the first seconds.
        share = 1.0 - math.exp(-max(self._seen_at - self._started_at, 0.5) / MEMORY_S)
        return ahead * share / self._rate if self._rate > 0.0 else 0.0
