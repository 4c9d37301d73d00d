"""A worker that floods the router has a quarter of its time at most; an honest one is never held back."""

import pytest

from router.sessions.reader_share import MAX_PAUSE_S, SHARE, ReaderShare


@pytest.mark.parametrize("each_s", [1e-5, 1e-4, 1e-3, 0.004])
def test_many_small_events_take_their_share_and_no_more(each_s: float) -> None:
    """However small they are."""
    share, now, busy = ReaderShare(), 0.0, 0.0
    while now < 5.0:
        pause = share.handled(now, now + each_s)
        busy += each_s
        now += each_s + pause
    assert busy / now <= SHARE + 0.05


def test_a_heavy_event_is_paid_for_three_times_up_to_a_bound() -> None:
    assert ReaderShare().handled(0.0, 0.02) == pytest.approx(0.06)
    assert ReaderShare().handled(0.0, 20.0) == MAX_PAUSE_S


def test_an_honest_workers_steps_are_never_held_back() -> None:
    """Fifty a second of two milliseconds each: hundreds of streams."""
    share = ReaderShare()
    assert all(share.handled(step * 0.02, step * 0.02 + 0.002) == 0.0 for step in range(500))


def test_what_the_machine_gave_to_others_is_not_counted() -> None:
    """A router that had to wait for its processor would else let its workers wait three times as long."""
    share = ReaderShare()
    assert all(share.handled(step * 0.02, step * 0.02 + 0.015, 0.001) == 0.0 for step in range(500))
    assert share.handled(20.0, 20.5, 0.02) == pytest.approx(0.06)
