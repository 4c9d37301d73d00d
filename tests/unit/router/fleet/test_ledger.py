"""The ledger counts what a worker's load does not show yet."""

from hypothesis import given
from hypothesis import strategies as st

from router.fleet.ledger import Ledger


def test_a_reservation_counts_until_a_report_reflects_its_command() -> None:
    """A claim starts at the decision, not at the send, and ends when the worker has seen the command."""
    ledger = Ledger()
    ledger.reserve("a", 100, 10)
    assert ledger.totals().requests == 1
    ledger.reflected(10**9)
    assert ledger.totals().requests == 1, "a report cannot reflect what was never sent"
    ledger.sent("a", 7)
    ledger.reflected(6)
    assert ledger.totals().prompt_tokens == 100
    ledger.reflected(7)
    assert ledger.totals().requests == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["reserve", "sent", "release"])), max_size=60))
def test_totals_are_never_negative_and_end_at_zero(steps: list[tuple[str, str]]) -> None:
    """Whatever the order of events, releasing everything leaves nothing."""
    ledger = Ledger()
    for sequence, (request, step) in enumerate(steps):
        match step:
            case "reserve":
                ledger.reserve(request, 5, 3)
            case "sent":
                ledger.sent(request, sequence)
            case _:
                ledger.release(request)
        assert ledger.totals().requests >= 0
    for request in "abcdef":
        ledger.release(request)
    assert ledger.totals().prompt_tokens == 0
