"""At most so many log lines of a kind: what anybody can cause must not fill a disk. What is left out is counted.

Every event has a bucket, and each of those it speaks of has one of its own there, so that one noisy worker does not
drown what is said of the others. The first line after a pause carries ``suppressed``: how many like it were left out.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from router.domain.token_bucket import TokenBucket

OF_ONE_PER_MINUTE = 60
"""Lines of one event about one worker, peer or subject."""

OF_EVENT_PER_MINUTE = 600
"""Lines of one event about anybody."""

MAX_BUCKETS = 4096
"""Who was spoken of lately; at the bound the longest unheard of are forgotten, and begin anew."""

_ABOUT = ("worker", "peer", "subject", "node")


class LogLimit:
    """A structlog processor. ``now``: monotonic seconds."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        *,
        of_one: float = OF_ONE_PER_MINUTE,
        of_event: float = OF_EVENT_PER_MINUTE,
    ) -> None:
        self._now = now
        self._of_one = of_one
        self._of_event = of_event
        self._buckets: OrderedDict[tuple[str, str], _Counted] = OrderedDict()

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Raises structlog.DropEvent for a line too many. Debug lines are asked for, and pass."""
        if method == "debug":
            return event
        name = str(event.get("event", ""))
        about = next((str(event[key]) for key in _ABOUT if event.get(key)), "")
        if about and _ABOUT[1] in event and about == str(event[_ABOUT[1]]):
            about = about.rpartition(":")[0]  # the port is another one each time
        now = self._now()
        every = self._bucket((name, ""), self._of_event, now)
        one = self._bucket((name, about), self._of_one, now) if about else every
        if one.bucket.wait_s(1) > 0.0 or every.bucket.wait_s(1) > 0.0:
            one.suppressed += 1
            raise structlog.DropEvent
        one.bucket.spend(1)
        if every is not one:
            every.bucket.spend(1)
        if one.suppressed:
            event["suppressed"] = one.suppressed
            one.suppressed = 0
        return event

    def _bucket(self, key: tuple[str, str], per_minute: float, now: float) -> "_Counted":
        found = self._buckets.get(key)
        if found is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets.popitem(last=False)
            found = self._buckets[key] = _Counted(TokenBucket.full(per_minute, now))
        else:
            self._buckets.move_to_end(key)
        found.bucket.refill(now)
        return found


class _Counted:
    """A bucket, and lines left out since it was last empty."""

    __slots__ = ("bucket", "suppressed")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.suppressed = 0
