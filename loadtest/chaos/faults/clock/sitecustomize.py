"""A wall clock that follows a file, for a process and all Python processes it starts, Ray's too.

Python imports a module of this name by itself when its folder is on PYTHONPATH. The file that CHAOS_CLOCK names says by
how many seconds the clock is off, now. Everything that Python code reads of wall-clock time jumps with it; monotonic
time does not, and gRPC's core and Ray's own servers read the system's clock as before.
"""

import os
import threading
import time
from pathlib import Path

import time_machine

LOOK_EVERY_S = 0.05


def follow_file(file: Path) -> None:
    """Follow it from now on, as long as it is there."""
    clock = time_machine.travel(time.time(), tick=True).start()
    threading.Thread(target=_follow, args=(file, clock), name="clock", daemon=True).start()


def _follow(file: Path, clock: time_machine.Traveller) -> None:
    pause, shown = threading.Event(), 0.0
    while not pause.wait(LOOK_EVERY_S):
        try:
            offset = float(file.read_text())
        except OSError:
            return
        if offset != shown:
            clock.shift(offset - shown)
            shown = offset


if os.environ.get("CHAOS_CLOCK"):
    follow_file(Path(os.environ["CHAOS_CLOCK"]))
