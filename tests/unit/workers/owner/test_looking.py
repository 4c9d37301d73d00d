"""Rule: what the system says of power and of its owner is read as it means it; what it does not say is not known.

The texts follow ioreg(8) and org.freedesktop.login1(5); none was recorded on such a machine by us.
"""

import multiprocessing
import os

import psutil
import pytest

from tests.support.until import until
from workers.owner.looking import Looking, OthersBusy, parse_hid, parse_seat

IOREG = """
  +-o IOHIDSystem  <class IOHIDSystem, id 0x100000434, registered, matched, active, busy 0 (0 ms), retain 24>
    | {
    |   "HIDParameters" = {"HIDClickTime"=500000000}
    |   "HIDIdleTime" = 314159265358
    | }
"""


@pytest.mark.parametrize(("text", "age_s"), [(IOREG, 314.159265358), ("", None), ('"HIDIdleTime" = x', None)])
def test_a_mac_tells_nanoseconds_since_the_last_input(text: str, age_s: float | None) -> None:
    assert parse_hid(text) == (pytest.approx(age_s) if age_s is not None else None)


@pytest.mark.parametrize(
    ("text", "age_s"),
    [
        ("ActiveSession=2\nIdleHint=no\nIdleSinceHint=0\n", 0.0),  # a desktop that was in use since it started
        ("ActiveSession=2\nIdleHint=no\nIdleSinceHint=99\n", 0.0),
        ("ActiveSession=2\nIdleHint=yes\nIdleSinceHint=1000000000\n", 600.0),
        ("ActiveSession=2\nIdleHint=yes\nIdleSinceHint=0\n", None),
        ("ActiveSession=\nIdleHint=yes\nIdleSinceHint=1000000000\n", None),  # nobody is logged in
        ("ActiveSession=2\nIdleHint=yes\nIdleSinceHint=9000000000000\n", 0.0),  # the wall clock was set back
        ("Unknown seat 'seat0'.\n", None),
        ("", None),
    ],
)
def test_a_linux_desktop_tells_since_when_it_is_idle(text: str, age_s: float | None) -> None:
    assert parse_seat(text, 1600.0) == age_s


def _spin() -> None:
    while True:
        pass


def test_what_workers_compute_is_not_the_owner_s_doing() -> None:
    """A process that keeps a processor busy counts, and counts no more once it is known for a worker."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    assert process.pid is not None
    try:
        all_, but_it = OthersBusy(), OthersBusy()
        spins = psutil.Process(process.pid)
        until(lambda: spins.cpu_times().user > 0.5, "it computes")
        assert (all_.cpus(()), but_it.cpus((process.pid,))) == (None, None)
        until(lambda: spins.cpu_times().user > 1.5, "it computes on")
        with_it, without = all_.cpus(()), but_it.cpus((process.pid,))
    finally:
        process.kill()
        process.join()
        process.close()
    assert with_it is not None
    assert without is not None
    assert with_it > without


def test_this_machine_is_looked_at_without_trouble() -> None:
    """Whatever it is, and twice."""
    looking = Looking()
    first, second = looking.look(), looking.look((os.getpid(), 2**22 + 1))
    assert first.others_cpus is None
    assert second.others_cpus is not None
    assert second.cpus > 0
    assert Looking("darwin").look().input_age_s is None or second.cpus
