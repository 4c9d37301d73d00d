"""Watches the event loop: a step that held it for long is a log line with the culprit, and a metric.

Everybody's tokens pass through one loop, so one slow step is felt by all. Timing each step would cost as much as many
of them; instead the loop moves a clock fifty times a second, and a thread that finds it standing looks at what the
loop's thread is doing at that moment. A machine that gave the process no time is not the loop's fault: what counts is
the processor time that the step took.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import structlog

log = structlog.get_logger()

LIMIT_S = 0.05
BEAT_S = 0.02
LOOK_S = 0.02

_OURS = ("router", "protos", "loadtest", "workers")


class LoopWatch:
    """Of the loop in which it is started. ``stalled`` hears the seconds each long step took."""

    def __init__(self, stalled: Callable[[float], None] = lambda _: None, *, limit_s: float = LIMIT_S) -> None:
        self._stalled = stalled
        self._limit_s = limit_s
        self._beat_at = 0.0
        self._cpu_at = 0.0
        self._culprit = ""
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._beat_at, self._cpu_at = time.monotonic(), time.thread_time()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        self._thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="event-loop watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End. Idempotent."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def _beat(self) -> None:
        """In the loop: judge the time since the last beat."""
        now, cpu = time.monotonic(), time.thread_time()
        late_s, worked_s = now - self._beat_at - BEAT_S, cpu - self._cpu_at
        culprit, self._culprit = self._culprit, ""
        self._beat_at, self._cpu_at = now, cpu
        if late_s > self._limit_s and worked_s > self._limit_s:
            self._stalled(late_s)
            log.warning(
                "loop.stalled", seconds=round(late_s, 3), worked=round(worked_s, 3), culprit=culprit or "not seen"
            )
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _look(self, loop_thread: int) -> None:
        """In the watch's own thread. Once for each stall: what is looked at first is what took longest, mostly."""
        seen_at, wait_s = 0.0, LOOK_S
        while not self._ended.wait(wait_s):
            beat_at = self._beat_at
            left_s = beat_at + BEAT_S + self._limit_s - time.monotonic()
            wait_s = max(left_s, LOOK_S)  # no earlier can a stall have lasted: each look takes the interpreter away
            if beat_at != seen_at and left_s < 0.0:
                seen_at = beat_at
                frame = sys._current_frames().get(loop_thread)
                if frame is not None:
                    self._culprit = where(frame)


def where(frame: FrameType) -> str:
    """Where a thread is, in our own code if anywhere there, and in what that waits for.

    >>> where(sys._getframe())  # doctest: +ELLIPSIS
    '...'
    """
    innermost = _name(frame)
    at: FrameType | None = frame
    while at is not None:
        if any(f"/{room}/" in at.f_code.co_filename for room in _OURS):
            own = _name(at)
            return own if own == innermost else f"{own} > {innermost}"
        at = at.f_back
    return innermost


def _name(frame: FrameType) -> str:
    file = Path(frame.f_code.co_filename)
    return f"{'/'.join(file.parts[-2:])}:{frame.f_lineno} {frame.f_code.co_qualname}"
