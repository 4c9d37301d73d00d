"""Whoever is refused again and again hears of it later: a refusal costs as much as many tokens of everybody else's.

A hundred clients of one spent key, each asking anew as it hears 429, took a core; so do thousands of bodies that all
come too slowly at the same moment. An asker's first refusals are told at once; past those they are told one after the
other, and whoever waits for an answer does not ask meanwhile. Retry-After is told as of then.
"""

from collections import OrderedDict
from collections.abc import Callable

AT_ONCE = 50
"""Refusals of one asker that are told at once, when there were none lately."""

PER_S = 200.0
"""Those told after that, a tenth of a core."""

MAX_WAIT_S = 10.0
"""Nobody waits for longer: it is what a client may take for its own half of a request, too."""

MAX_ASKERS = 4096
"""Who was refused lately; at the bound the longest unheard of are forgotten, and begin anew."""


class RefusalPace:
    """Of one router replica. ``now``: monotonic seconds.

    >>> pace = RefusalPace(lambda: 0.0, at_once=2, per_s=10.0)
    >>> [pace.wait_s("key") for _ in range(4)], pace.wait_s("another")
    ([0.0, 0.0, 0.1, 0.2], 0.0)
    """

    def __init__(self, now: Callable[[], float], *, at_once: int = AT_ONCE, per_s: float = PER_S) -> None:
        self._now = now
        self._every_s = 1.0 / per_s
        self._ahead_s = (at_once - 1) / per_s
        self._next: OrderedDict[str, float] = OrderedDict()  # when each asker's next refusal would be due, told evenly

    def wait_s(self, asker: str) -> float:
        """Another refusal: seconds until it may be told."""
        now = self._now()
        due = max(self._next.pop(asker, now), now)
        wait_s = due - self._ahead_s - now
        if wait_s > MAX_WAIT_S:
            wait_s = MAX_WAIT_S
        else:
            due += self._every_s
        self._next[asker] = due
        if len(self._next) > MAX_ASKERS:
            self._next.popitem(last=False)
        return round(max(0.0, wait_s), 6)
