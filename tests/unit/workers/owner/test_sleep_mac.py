"""Rule: a Mac is let go once what runs has moved, or after a while; it is never kept awake. IOKit is played."""

import threading

import pytest

from tests.support.until import until
from workers.owner import sleep_mac
from workers.owner.sleep_mac import CAN_SLEEP, HAS_POWERED_ON, WILL_SLEEP, Announcer


def test_what_the_power_manager_says_is_told_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle sleep is allowed at once, a sleep when it has moved, a wake needs no answer."""
    allowed: list[int] = []
    said: list[str] = []
    announcer = Announcer(allowed.append, said.append)
    announcer.heard(CAN_SLEEP, 1)
    assert (allowed, said) == ([1], [])
    sleeping = threading.Thread(target=announcer.heard, args=(WILL_SLEEP, 2))
    sleeping.start()
    until(lambda: said == ["sleep"], "it says so")
    assert allowed == [1]
    announcer._moved.set()
    sleeping.join(30)
    assert allowed == [1, 2]
    monkeypatch.setattr(sleep_mac, "MOVED_WITHIN_S", 0.05)
    announcer.heard(WILL_SLEEP, 3)  # nobody answers
    announcer.heard(HAS_POWERED_ON, 4)
    announcer.heard(0xE0000340, 5)  # the lid, which this program does not know
    assert (allowed, said) == ([1, 2, 3], ["sleep", "sleep", "wake"])
