"""What the machine is doing now, asked of the system. Blocks for as long as a command may take.

Verified on Linux without a battery and without a desktop. **Not verified**: macOS, laptops, desktops.
"""

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from workers.hardware.apple import parse_power_mode
from workers.hardware.probes import Probe, ask
from workers.owner.conditions import Conditions

PLATFORM_PROFILE = Path("/sys/firmware/acpi/platform_profile")
"""The power profile that a Linux desktop chose: kernel documentation, userspace-api/sysfs-platform_profile.rst."""

HID = Probe(name="hid", command=("ioreg", "-c", "IOHIDSystem", "-d", "4"), deadline_s=5.0)
PMSET = Probe(name="pmset", command=("pmset", "-g"), deadline_s=5.0)
SEAT = Probe(
    name="seat",
    command=("loginctl", "show-seat", "seat0", "--property=ActiveSession,IdleHint,IdleSinceHint"),
    deadline_s=5.0,
    only_with=("loginctl",),
)


class Looking:
    """Looks again and again; processors that others keep busy are counted between two looks. ``activity`` off: at the
    power alone, which costs next to nothing.
    """

    def __init__(self, platform: str = sys.platform, *, activity: bool = True) -> None:
        self._platform = platform
        self._activity = activity
        self._busy = OthersBusy()

    def look(self, workers: Iterable[int] = ()) -> Conditions:
        """``workers``: process ids of all workers of this machine; they and what they started are not the owner's."""
        return Conditions(
            on_battery=_on_battery(),
            low_power=self._low_power(),
            input_age_s=self._input_age_s() if self._activity else None,
            others_cpus=self._busy.cpus((os.getpid(), *workers)) if self._activity else None,
            cpus=psutil.cpu_count() or 0,
        )

    def _low_power(self) -> bool | None:
        if self._platform == "darwin":
            return parse_power_mode(_output(PMSET)) == "low"
        try:
            return PLATFORM_PROFILE.read_text(encoding="ascii").strip() == "low-power"
        except (OSError, UnicodeDecodeError):
            return None

    def _input_age_s(self) -> float | None:
        if self._platform == "darwin":
            return parse_hid(_output(HID))
        ages = [parse_seat(_output(SEAT), time.time()), *(_terminal_age_s(one) for one in _users())]
        return min((one for one in ages if one is not None), default=None)


class OthersBusy:
    """Processors that all but some processes keep busy, since it was asked before."""

    def __init__(self) -> None:
        self._before: tuple[float, float, dict[int, float]] | None = None

    def cpus(self, ours: Iterable[int]) -> float | None:
        """None the first time."""
        mine: dict[int, float] = {}
        for process_id in dict.fromkeys(ours):
            mine |= _cpu_s_of(process_id)
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        now = (time.monotonic(), busy, mine)
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return None
        # of a process that has begun since, all counts; of one that has ended, nothing
        spent = sum(seconds - before[2].get(one, 0.0) for one, seconds in mine.items())
        return max(0.0, now[1] - before[1] - spent) / (now[0] - before[0])


def parse_hid(text: str) -> float | None:
    """Seconds by ``"HIDIdleTime" = nanoseconds`` of ``ioreg -c IOHIDSystem``; None when it does not say.

    >>> parse_hid('    | |   "HIDIdleTime" = 2500000000')
    2.5
    """
    found = re.search(r'"HIDIdleTime"\s*=\s*(\d+)', text)
    return int(found[1]) / 1e9 if found else None


def parse_seat(text: str, wall_s: float) -> float | None:
    r"""By logind's hints of the seat with screen and keyboard (org.freedesktop.login1(5)): ``IdleHint=yes`` since
    ``IdleSinceHint`` (microseconds of the wall clock), or in use, where somebody is logged in there. None: nobody is.

    >>> parse_seat("ActiveSession=2\nIdleHint=yes\nIdleSinceHint=1000000000\n", 1600.0)
    600.0
    """
    hints = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    since = hints.get("IdleSinceHint", "")
    if not hints.get("ActiveSession"):
        return None
    if hints.get("IdleHint") == "no":
        return 0.0
    return max(0.0, wall_s - int(since) / 1e6) if since.isdigit() and int(since) else None


def has_battery() -> bool:
    """Whether this machine tells of one."""
    return _on_battery() is not None


def _on_battery() -> bool | None:
    try:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    except (psutil.Error, OSError, NotImplementedError, ValueError):
        return None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def _users() -> list[Any]:
    try:
        return list(psutil.users())
    except (psutil.Error, OSError):
        return []


def _terminal_age_s(user: Any) -> float | None:
    """Since somebody typed in a terminal: its device was read then, as w(1) has it."""
    terminal = getattr(user, "terminal", None)
    try:
        return max(0.0, time.time() - Path("/dev", terminal).stat().st_atime) if terminal else None
    except OSError:
        return None


def _cpu_s_of(process_id: int) -> dict[int, float]:
    found: dict[int, float] = {}
    try:
        process = psutil.Process(process_id)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return found
    for one in family:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        found[one.pid] = times.user + times.system
    return found


def _output(probe: Probe) -> str:
    reading = ask(probe)
    return reading.output if reading is not None else ""
