"""Rule: a router hears of a changed load soon, of an unchanged one as a heartbeat, never more often than it wants."""

from dataclasses import replace

from protos.contract.worker import Load
from workers.session.load_pacer import LoadPacer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.load = Load()
        self.pacer = LoadPacer(lambda: self.load, interval_s=0.05, heartbeat_s=1.0, clock=lambda: self.now)

    def due_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.pacer.due() is not None


def test_a_changed_load_goes_out_once_the_last_one_is_old_enough() -> None:
    """And an unchanged one after the heartbeat."""
    clock = Clock()
    assert clock.due_after(0.0)
    clock.load = replace(clock.load, running=1)
    assert not clock.due_after(0.04)
    assert clock.due_after(0.02)
    assert not clock.due_after(0.9)
    assert clock.due_after(0.2)


def test_a_command_that_was_seen_is_a_change() -> None:
    """The router learns from it which of its commands the load knows of; numbers never go back."""
    clock = Clock()
    assert clock.due_after(0.0)
    clock.pacer.saw(7)
    clock.pacer.saw(3)
    assert clock.due_after(0.06)
    assert clock.pacer.report().last_command == 7
    clock.pacer.begin()
    assert clock.pacer.report().last_command == 0
    assert clock.due_after(0.06), "a new call has heard nothing yet"


def test_a_router_may_ask_for_fewer_reports_and_not_for_more() -> None:
    """The worker's own least interval stays."""
    clock = Clock()
    clock.pacer.ask_for(0.5)
    assert clock.due_after(0.0)
    clock.load = replace(clock.load, running=1)
    assert not clock.due_after(0.4)
    clock.pacer.ask_for(0.0)
    assert clock.due_after(0.0)


def test_the_wait_ends_when_the_next_report_may_go_out() -> None:
    """Sooner where something changed; never zero, so that nobody spins."""
    clock = Clock()
    assert clock.due_after(0.0)
    assert clock.pacer.remaining_s() == 1.0
    clock.load = replace(clock.load, running=1)
    assert clock.pacer.remaining_s() == 0.05
    clock.now += 5.0
    assert 0.0 < clock.pacer.remaining_s() < 0.01
