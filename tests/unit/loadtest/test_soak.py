"""``make soak``: what counts as growth, and what as left over."""

import dataclasses

import pytest

from loadtest.soak.__main__ import unserved
from loadtest.soak.flat import BOUNDS, Held, left_over, verdicts


def held(at_s: float = 0.0, **more: float) -> Held:
    known = {"memory_bytes": 100 * 2**20, "descriptors": 80.0, "tasks": 120.0, "claims": 40.0, "requests": 44.0}
    return Held(at_s=at_s, **{**known, **more})


def growing(figure: str, factor: float) -> list[Held]:
    """So much more at the end than at the beginning, steadily, with a little noise."""
    one = held()
    return [
        dataclasses.replace(
            one, at_s=float(at), **{figure: getattr(one, figure) * (1 + (factor - 1) * at / 239 + 0.01 * (at % 3))}
        )
        for at in range(240)
    ]


def test_what_stays_as_it_is_is_flat() -> None:
    for bound in BOUNDS:
        assert all(one.flat for one in verdicts(growing(bound.figure, 1.0)))


@pytest.mark.parametrize("figure", [bound.figure for bound in BOUNDS])
def test_what_doubles_over_a_run_is_not(figure: str) -> None:
    found = {one.figure: one.flat for one in verdicts(growing(figure, 6.0))}
    assert not found.pop(figure)
    assert all(found.values())


def test_caches_may_fill_while_the_pool_warms_up() -> None:
    samples = [held(memory_bytes=(100 + 60 * min(at / 60, 1.0)) * 2**20) for at in range(240)]
    assert all(one.flat for one in verdicts(samples))


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        verdicts([held()] * 10)


def test_an_idle_pool_holds_what_it_held_before() -> None:
    before = held(claims=0, requests=0, tasks=29, descriptors=29)
    assert left_over(before, dataclasses.replace(before, tasks=30.0)) == []
    said = left_over(before, held(claims=1, requests=2, tasks=40, descriptors=60))
    assert len(said) == 4
    assert "1 claims are open" in said


def test_requests_that_nobody_served_are_wrong_beyond_a_few() -> None:
    assert unserved({"complete": 990, "left": 200, "broken": 5}) == []
    assert "were not served" in unserved({"complete": 90, "left": 20, "refused: 503 no_capacity": 10})[0]
