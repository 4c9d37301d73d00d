"""When a router is told the load: when it changed, but not too often; unchanged now and then, as a heartbeat."""

import time
from collections.abc import Callable
from dataclasses import replace

from protos.contract.worker import Load

MIN_WAIT_S = 0.001


class LoadPacer:
    """One session's. ``read`` gives the load now; ``clock`` counts seconds."""

    def __init__(
        self,
        read: Callable[[], Load],
        *,
        interval_s: float,
        heartbeat_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._least_s = self._interval_s = interval_s
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._last_command = 0
        self._sent: Load | None = None
        self._sent_at = 0.0

    def begin(self) -> None:
        """A new call: nothing was told yet, no command was seen."""
        self._last_command = 0
        self._sent = None

    def ask_for(self, interval_s: float) -> None:
        """A router may want fewer reports, never more."""
        self._interval_s = max(self._least_s, interval_s)

    def saw(self, command: int) -> None:
        """The number of a command that was acted on; it goes out with the load."""
        self._last_command = max(self._last_command, command)

    def report(self) -> Load:
        """The load now."""
        return replace(self._read(), last_command=self._last_command)

    def due(self) -> Load | None:
        """The load, when it changed and the last one is old enough, or when it is time for a heartbeat."""
        age_s = self._clock() - self._sent_at
        if age_s < self._interval_s:
            return None
        report = self.report()
        if age_s < self._heartbeat_s and report == self._sent:
            return None
        self._sent, self._sent_at = report, self._clock()
        return report

    def remaining_s(self) -> float:
        """Until the next one is due, if nothing changes meanwhile."""
        changed = self.report() != self._sent
        wait_s = self._interval_s if changed else self._heartbeat_s
        return max(MIN_WAIT_S, wait_s - (self._clock() - self._sent_at))
