"""The generator watches itself: its processor, how late its own timers are, how much it has in flight."""

import time
from collections.abc import Callable

import gevent
import msgspec
import psutil

TICK_S = 0.02


class Second(msgspec.Struct, kw_only=True):
    """One second of one generating process."""

    at_s: float
    process: int  # the share's index
    cpu: float  # 1.0: a whole processor
    lag_ms: float  # the latest that a timer fired
    in_flight: int
    unsent: int


class Watch:
    """Runs beside the conductor; ``seconds`` is taken away by who reports it."""

    def __init__(self, index: int, now: Callable[[], float], in_flight: Callable[[], tuple[int, int]]) -> None:
        self.seconds: list[Second] = []
        self._index = index
        self._now = now
        self._in_flight = in_flight
        self._process = psutil.Process()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop watching."""
        self._greenlet.kill()

    def take(self) -> list[Second]:
        """What was seen since the last time."""
        seen, self.seconds = self.seconds, []
        return seen

    def _run(self) -> None:
        self._process.cpu_percent()
        lag_s, noted = 0.0, time.perf_counter()
        while True:
            slept = time.perf_counter()
            gevent.sleep(TICK_S)
            woke = time.perf_counter()
            lag_s = max(lag_s, woke - slept - TICK_S)
            if woke - noted < 1.0:
                continue
            in_flight, unsent = self._in_flight()
            self.seconds.append(
                Second(
                    at_s=round(self._now(), 3),
                    process=self._index,
                    cpu=round(self._process.cpu_percent() / 100.0, 3),
                    lag_ms=round(1000.0 * lag_s, 2),
                    in_flight=in_flight,
                    unsent=unsent,
                )
            )
            lag_s, noted = 0.0, woke
