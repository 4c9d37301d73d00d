"""The breaker forgives a crash at once and remembers a lie."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.fleet.breaker import OWED_FOR_A_BREACH, Breaker

FIRST_S, LONGEST_S = 1.0, 30.0
CLOSED = Breaker(first_s=FIRST_S, longest_s=LONGEST_S)


def honest(breaker: Breaker, answers: int) -> Breaker:
    """So many answers, one after the other, each begun once the pause was over."""
    for _ in range(answers):
        breaker = breaker.succeeded(breaker.open_until)
    return breaker


def test_failures_close_it_off_longer_each_time_and_are_forgiven_at_once() -> None:
    """Pauses double up to the longest; one success closes it."""
    breaker, now = Breaker(first_s=1, longest_s=5), 100.0
    pauses = []
    for _ in range(4):
        breaker = breaker.failed("x", now)
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
    assert pauses == [1, 2, 4, 5]
    assert breaker.probing
    assert not breaker.succeeded(now).probing


def test_all_streams_of_one_crash_are_one_failure() -> None:
    """What fails while the breaker is open failed with what opened it; and no number of failures is too large."""
    breaker = Breaker(first_s=1, longest_s=5)
    for _ in range(200):
        breaker = breaker.failed("crash", 100.0)
    assert (breaker.failures, breaker.open_until) == (1, 101.0)
    for number in range(2000):
        breaker = breaker.failed("again", 200.0 + 10.0 * number)
    assert breaker.open_until - (200.0 + 10.0 * 1999) == 5


def test_a_breach_is_made_good_by_honest_answers_in_a_row_and_by_nothing_less() -> None:
    """Until the last of them it is on trial; then it is as if nothing had been."""
    breaker = CLOSED.breached("lied", 100.0)
    assert (breaker.owed, breaker.open_until) == (OWED_FOR_A_BREACH, 100.0 + FIRST_S)
    assert honest(breaker, OWED_FOR_A_BREACH - 1).probing
    assert honest(breaker, OWED_FOR_A_BREACH) == CLOSED


def test_what_was_under_way_before_the_breach_proves_nothing() -> None:
    """A worker that lies into one of thirty streams brings the others to an honest end."""
    breaker = CLOSED.breached("lied", 100.0)
    for began_at in (0.0, 99.0, breaker.open_until - 0.01):
        assert breaker.succeeded(began_at) == breaker


def test_lies_that_come_to_light_in_the_same_moment_are_one() -> None:
    """A step left out of thirty streams is found thirty times."""
    breaker = CLOSED
    for _ in range(30):
        breaker = breaker.breached("lied", 100.0)
    assert breaker == CLOSED.breached("lied", 100.0)


def test_breach_after_breach_doubles_the_pause_up_to_the_longest() -> None:
    """As failures do."""
    breaker, now, pauses = CLOSED, 0.0, []
    for _ in range(8):
        breaker = breaker.breached("lied", now)
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_crash_in_between_is_forgiven_as_ever_and_settles_no_debt() -> None:
    """The two kinds are kept apart, and the longer pause counts."""
    breaker = CLOSED.failed("crashed", 10.0).breached("lied", 10.5)
    assert breaker.open_until == pytest.approx(11.5)
    breaker = breaker.succeeded(11.5)
    assert (breaker.failures, breaker.owed) == (0, OWED_FOR_A_BREACH - 1)
    crashed = breaker.failed("crashed", 12.0)
    assert crashed.open_until == 12.0 + FIRST_S
    assert crashed.owed == breaker.owed


@given(st.lists(st.integers(0, OWED_FOR_A_BREACH - 1), min_size=1, max_size=60))
def test_who_lies_more_often_than_once_in_eight_answers_never_comes_clean(between: list[int]) -> None:
    """However many honest answers, fewer than eight, lie between one lie and the next: pauses only grow."""
    breaker, now, last = CLOSED, 0.0, 0.0
    for answers in between:
        breaker = breaker.breached("lied", now)
        pause = breaker.open_until - now
        assert last <= pause <= LONGEST_S
        assert pause > last or pause == LONGEST_S
        breaker, now, last = honest(breaker, answers), breaker.open_until, pause
        assert breaker.probing


STEP = st.tuples(st.sampled_from(["failed", "breached", "succeeded"]), st.floats(0.0, 50.0))


@given(st.lists(STEP, max_size=80))
def test_whatever_happens_pauses_and_debts_stay_within_their_bounds(steps: list[tuple[str, float]]) -> None:
    """And eight honest answers in a row, at the very most sixty times, close any breaker."""
    breaker, now = CLOSED, 0.0
    for step, passed in steps:
        now += passed
        match step:
            case "failed":
                breaker = breaker.failed("x", now)
            case "breached":
                breaker = breaker.breached("x", now)
            case _:
                breaker = breaker.succeeded(now)
        assert breaker.open_until <= now + LONGEST_S
        assert breaker.owed >= 0
    assert honest(breaker, 60 * OWED_FOR_A_BREACH) == CLOSED


@given(st.lists(STEP, max_size=80))
def test_without_breaches_one_success_is_all_it_takes(steps: list[tuple[str, float]]) -> None:
    """A worker that merely crashed comes back as soon as an answer goes through, whenever that answer began."""
    breaker, now = CLOSED, 0.0
    for step, passed in steps:
        now += passed
        if step == "succeeded":
            breaker = breaker.succeeded(0.0)
            assert breaker == CLOSED
        else:
            before = breaker
            breaker = breaker.failed("x", now)
            expected = min(LONGEST_S, FIRST_S * 2.0**before.failures)
            assert breaker == (
                before
                if now < before.open_until
                else replace(before, failures=before.failures + 1, open_until=now + expected, reason="x")
            )
