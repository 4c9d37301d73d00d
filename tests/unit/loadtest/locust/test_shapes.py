"""Shapes of load: when the n-th request is due."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.locust.shapes import SHAPES, Shape, Step

RATES = st.floats(0.1, 50.0)


@given(st.sampled_from(sorted(SHAPES)), RATES, st.floats(1.0, 20.0), st.floats(1.0, 600.0), st.integers(1, 12))
def test_requests_are_due_in_order_and_as_many_as_the_rates_say(
    name: str, rate: float, factor: float, length_s: float, steps: int
) -> None:
    shape = SHAPES[name](rate, rate * factor, length_s, steps)
    total = sum(step.rate * step.length_s for step in shape.steps)
    assert shape.length_s == pytest.approx(length_s)
    due = [shape.due_s(total * share / 20.0) for share in range(1, 20)]
    assert all(one is not None for one in due)
    times = [one for one in due if one is not None]
    assert all(one < later for one, later in itertools.pairwise(times))
    assert times[0] > 0.0
    assert times[-1] < length_s * (1 + 1e-9)
    assert shape.due_s(total * 1.001) is None
    assert max(step.rate for step in shape.steps) <= rate * factor * (1 + 1e-9)


def test_a_step_offers_its_rate() -> None:
    shape = Shape([Step(10.0, 1.0), Step(5.0, 4.0)])
    assert shape.due_s(5.0) == 5.0
    assert shape.due_s(14.0) == 11.0
    assert [shape.step_at(second) for second in (0.0, 9.9, 10.0, 99.0)] == [0, 0, 1, 1]


def test_a_ramp_goes_up_by_equal_factors_and_a_spike_comes_back() -> None:
    rates = [step.rate for step in SHAPES["ramp"](1.0, 8.0, 40.0, 4).steps]
    assert rates == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert [step.rate for step in SHAPES["spike"](1.0, 9.0, 50.0, 4).steps] == [1.0, 9.0, 1.0]
    day = SHAPES["diurnal"](1.0, 3.0, 24.0, 0)
    assert day.rate_at(12.0) == pytest.approx(3.0, abs=0.02)
    assert day.rate_at(0.0) == pytest.approx(1.0, abs=0.02)
