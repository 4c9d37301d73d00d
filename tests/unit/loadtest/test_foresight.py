"""Rule: the search turns away whom it pays to turn away, counts them as missed, and never ends worse than it began."""

from collections.abc import Sequence

from loadtest.simulate.bounds.foresight import foresee
from loadtest.simulate.metrics import Served, window
from loadtest.simulate.traffic import Arrival

SPEED = 1000.0
"""Prompt tokens a second of the one server these tests have; first come first served."""


def arrival(number: int, prompt_tokens: int) -> Arrival:
    """One request a second, nothing cached."""
    return Arrival(number, float(number), prompt_tokens, 1, (), "m", None, "t")


def play(arrivals: Sequence[Arrival]) -> list[Served]:
    """A queue with one server, no engine."""
    free, served = 0.0, []
    for one in arrivals:
        free = max(free, one.at) + one.prompt_tokens / SPEED
        served.append(Served(arrival=one, first_at=free, ended_at=free))
    return served


def missed(served: Sequence[Served]) -> int:
    """Of those that count."""
    return sum(not served[n].good for n in window(len(served)))


ARRIVALS = [arrival(n, 9000 if n == 30 else 900) for n in range(80)]
"""One long prompt that many wait behind."""


def test_one_long_prompt_is_turned_away_for_the_many_behind_it() -> None:
    """It counts as missed itself."""
    found = foresee(ARRIVALS, play, allowed=0.0, seed=1)
    assert missed(play(ARRIVALS)) > 5
    assert missed(found) == 1
    assert found[30].shed == "foreseen"


def test_everybody_keeps_their_own_number() -> None:
    """Runs without some renumber the rest; the result does not."""
    found = foresee(ARRIVALS, play, allowed=0.0, seed=1)
    assert [one.arrival for one in found] == ARRIVALS


def test_the_search_stops_when_enough_are_inside() -> None:
    """What is allowed to miss need not be searched for."""
    runs = []

    def counted(arrivals: Sequence[Arrival]) -> list[Served]:
        runs.append(len(arrivals))
        return play(arrivals)

    foresee(ARRIVALS, counted, allowed=0.9, seed=1)
    assert runs == [len(ARRIVALS)]


def test_a_run_that_was_given_up_is_not_searched() -> None:
    """It is far beyond the knee: what had ended by then is the result."""
    found = foresee(ARRIVALS, lambda arrivals: play(arrivals)[:20], allowed=0.0, seed=1)
    assert len(found) == 20


def test_a_changed_run_that_is_given_up_is_not_taken() -> None:
    """Nor one that misses more."""
    first = play(ARRIVALS)

    def worse(arrivals: Sequence[Arrival]) -> list[Served]:
        return play(arrivals) if len(arrivals) == len(ARRIVALS) else play(arrivals)[:10]

    assert missed(foresee(ARRIVALS, worse, allowed=0.0, seed=1)) == missed(first)
