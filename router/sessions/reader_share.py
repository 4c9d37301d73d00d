"""How much of the router's time one worker's events may take: a worker that floods it waits between its events.

gRPC's flow control then holds the flood back at the worker, whose outbox joins what waits. Pure.
"""

HEAVY_EVENT_S = 0.005
"""An event that took longer to handle makes its session wait three times as long before the next."""

WINDOW_S = 0.02
SHARE = 0.25
"""Of the time that may go into many small events, in bursts of milliseconds. A large engine with hundreds of streams
takes a tenth.
"""

MAX_PAUSE_S = 0.5
"""Far below the silence that ends a session: a router that was itself held up must not take an honest worker for dead.
"""


class ReaderShare:
    """Of one session. Times are monotonic seconds.

    >>> share = ReaderShare()
    >>> share.handled(0.0, 0.001), round(share.handled(0.001, 0.011), 6)
    (0.0, 0.03)
    """

    def __init__(self) -> None:
        self._window_began = 0.0
        self._busy_s = 0.0

    def handled(self, began: float, ended: float, worked_s: float | None = None) -> float:
        """An event was handled from ``began`` to ``ended``; seconds to wait before the next. ``worked_s``: of processor
        time, where it is known. A machine that gave the router none meanwhile is not the worker's fault.
        """
        took = ended - began if worked_s is None else worked_s
        if began - self._window_began > WINDOW_S:
            self._window_began, self._busy_s = began, 0.0
        self._busy_s += took
        if took > HEAVY_EVENT_S:
            return self._pause(3.0 * took, ended)
        if self._busy_s > SHARE * WINDOW_S:
            return self._pause(self._busy_s / SHARE - (ended - self._window_began), ended)
        return 0.0

    def _pause(self, seconds: float, ended: float) -> float:
        """After it a new window begins."""
        pause = min(max(0.0, seconds), MAX_PAUSE_S)
        self._window_began, self._busy_s = ended + pause, 0.0
        return pause
