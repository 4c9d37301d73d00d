"""Runs a command of ours with a wall clock that follows a file: ``python -m loadtest.chaos.skewed FILE MODULE ...``.

The file says by how many seconds the clock is off, now. Everything that Python code reads of wall-clock time jumps
with it; monotonic time does not, and gRPC's core reads the system's clock as before.
"""

import runpy
import sys
import threading
import time
from pathlib import Path

import time_machine

LOOK_EVERY_S = 0.05


def main() -> None:
    """Follow the file from now on, then be the module."""
    file, module = Path(sys.argv[1]), sys.argv[2]
    clock = time_machine.travel(time.time(), tick=True).start()
    threading.Thread(target=_follow, args=(file, clock), name="clock", daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _follow(file: Path, clock: time_machine.Traveller) -> None:
    pause, shown = threading.Event(), 0.0
    while not pause.wait(LOOK_EVERY_S):
        offset = _offset_s(file)
        if offset != shown:
            clock.shift(offset - shown)
            shown = offset


def _offset_s(file: Path) -> float:
    return float(file.read_text())


if __name__ == "__main__":
    main()
