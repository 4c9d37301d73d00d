"""Rule: a draft that is late is left alone for ever longer, and is back with its first answer."""

from workers.speculation.pace import FIRST_PAUSE_S, LATE_IN_A_ROW, LIE_PAUSE_S, LONGEST_PAUSE_S, Pace


def late(pace: Pace, now: float, times: int) -> None:
    for _ in range(times):
        pace.round_over(now, in_time=False)


def test_a_single_late_round_is_no_reason() -> None:
    pace = Pace()
    late(pace, 0.0, LATE_IN_A_ROW - 1)
    pace.round_over(0.0, in_time=True)
    late(pace, 0.0, LATE_IN_A_ROW - 1)
    assert not pace.paused
    assert (pace.late, pace.rounds) == (2 * LATE_IN_A_ROW - 2, 2 * LATE_IN_A_ROW - 1)


def test_pauses_grow_until_it_answers() -> None:
    pace, now, lengths = Pace(), 0.0, []
    late(pace, now, LATE_IN_A_ROW)
    assert "late" in pace.paused
    for _ in range(10):
        assert not pace.may_ask(pace.until - 0.01)
        lengths.append(pace.until - now)
        now = pace.until
        assert pace.may_ask(now)
        pace.pause(now, pace.paused)
    assert lengths[0] == FIRST_PAUSE_S
    assert lengths == sorted(lengths)
    assert lengths[-1] == LONGEST_PAUSE_S
    pace.answered(0.01)
    assert not pace.paused
    assert pace.may_ask(now)
    late(pace, now, LATE_IN_A_ROW)
    assert pace.until == now + FIRST_PAUSE_S


def test_who_lied_is_left_alone_for_long() -> None:
    pace = Pace()
    pace.pause(1.0, "nonsense", lied=True)
    assert pace.until == 1.0 + LIE_PAUSE_S


def test_a_lie_is_told_of_one_that_is_left_alone_already() -> None:
    """It is the graver reason."""
    pace = Pace()
    pace.pause(1.0, "late")
    pace.pause(1.1, "nonsense", lied=True)
    assert (pace.paused, pace.until) == ("nonsense", 1.1 + LIE_PAUSE_S)


def test_the_round_trip_is_its_95th_percentile_and_patience_follows_it() -> None:
    pace = Pace()
    for trip in range(1, 21):
        pace.answered(trip / 1000)
    pace.computed(4, 0.04)
    assert pace.rtt_s == 0.020
    assert pace.costs.token_s == 0.01
    assert pace.costs.patience_s(3) > 0.020 + 3 * 0.01
