"""Hearing that the machine sleeps and wakes: a program that the system tells, and clocks that a sleep moves apart."""

import sys
import time

from workers.owner import sleep_linux

CLOCKS = {"linux": ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"), "darwin": ("CLOCK_MONOTONIC", "CLOCK_UPTIME_RAW")}
"""By ``sys.platform``: one that runs on while the machine sleeps, and one that stands still."""


def announcer(platform: str = sys.platform) -> tuple[str, ...]:
    """The program that says when this machine is about to sleep; empty where none can."""
    if platform == "darwin":
        return sys.executable, "-m", "workers.owner.sleep_mac"
    if platform == "linux" and sleep_linux.possible():
        return sys.executable, "-m", "workers.owner.sleep_linux"
    return ()


def slept_s() -> float:
    """Seconds that this machine has slept in all since it started, up to a constant: one clock stands still meanwhile,
    the other does not (clock_gettime(2) of Linux and of macOS). Setting the wall clock moves neither.
    """
    clocks = CLOCKS.get(sys.platform)
    if clocks is None:
        return 0.0
    runs_on, stands_still = (int(getattr(time, name)) for name in clocks)
    return time.clock_gettime(runs_on) - time.clock_gettime(stands_still)
