"""A bound on bytes a second, shared by all that take from it. Pure: the caller has the clock, and waits."""

BURST_S = 0.25
"""So many seconds' worth may go at once after a pause."""


class Pace:
    """``bytes_per_s`` 0: no bound.

    >>> pace = Pace(1000)
    >>> pace.take(250, now=10.0), pace.take(500, now=10.0)
    (0.0, 0.5)
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def take(self, count: int, now: float) -> float:
        """Take ``count`` bytes; the answer is how many seconds to wait before they are used."""
        if not self._bytes_per_s:
            return 0.0
        self._free_at = max(self._free_at, now - BURST_S) + count / self._bytes_per_s
        return max(0.0, self._free_at - now)
