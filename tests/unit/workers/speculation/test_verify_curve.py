"""Rule: the cost of a step by its rows is what steps took, whatever pace the machine is at just now."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.speculation.verify_curve import MEASURED_ROWS, VerifyCurve, measured, point_of

POINTS = st.lists(st.tuples(st.integers(1, 200), st.floats(1e-4, 1.0)), min_size=1, max_size=8)


@given(points=POINTS, steps=st.lists(st.tuples(st.integers(1, 300), st.floats(1e-5, 5.0)), max_size=20))
def test_every_step_costs_something_and_more_rows_than_any_seen_never_less(
    points: list[tuple[int, float]], steps: list[tuple[int, float]]
) -> None:
    """Before and after learning, between the points and beyond them."""
    curve = VerifyCurve(points)
    for rows, seconds in steps:
        curve.observe(rows, seconds)
    costs = [curve.seconds(rows) for rows in range(1, 320)]
    assert all(cost > 0.0 for cost in costs)
    last = point_of(max(rows for rows, _ in (*points, *steps)))
    assert all(low <= high * (1 + 1e-9) for low, high in itertools.pairwise(costs[last - 1 :]))


def test_a_kernel_that_is_faster_with_more_rows_is_believed() -> None:
    """A quantized matrix product on a GPU changes kernels between 8 and 16 rows."""
    curve = VerifyCurve([(8, 0.058), (16, 0.046)])
    assert curve.seconds(16) < curve.seconds(8)
    assert curve.seconds(64) >= curve.seconds(16)


def test_what_few_steps_told_of_may_be_cheaper_than_it_seems() -> None:
    """The hope shrinks with every step, and comes back as steps are forgotten."""
    curve = VerifyCurve([(1, 0.01), (4, 0.02)])
    hopes = []
    for _ in range(20):
        hopes.append(curve.hoped(4) / curve.seconds(4))
        curve.observe(4, 0.02)
    assert hopes == sorted(hopes)
    assert 0.85 < hopes[0] < 0.95 < hopes[-1] < 1.0
    assert curve.hoped(3) < 0.9 * curve.seconds(3)
    before = curve.hoped(4) / curve.seconds(4)
    for _ in range(3000):
        curve.observe(1, 0.01)
    assert curve.hoped(4) / curve.seconds(4) < before


@pytest.mark.parametrize("kernel", ["straight", "steps"])
def test_it_learns_what_a_step_costs(kernel: str) -> None:
    """From a first guess that is wrong by a factor, under noise of a fifth."""
    dice = random.Random(3)

    def true(rows: int) -> float:
        return 0.01 + 0.002 * rows if kernel == "straight" else 0.01 * (1 + (rows - 1) // 8)

    curve = VerifyCurve([(1, 0.05), (16, 0.1)])
    for _ in range(1500):
        rows = dice.choice([1, 2, 3, 4, 6, 8, 12, 16])
        curve.observe(rows, true(rows) * dice.uniform(0.8, 1.2))
    for rows in (1, 2, 4, 8, 16):
        assert curve.seconds(rows) == pytest.approx(true(rows), rel=0.25)


def test_a_busier_machine_moves_every_point() -> None:
    """All costs double though only plain steps are seen: what verifying costs against them stays."""
    curve = VerifyCurve([(1, 0.01), (4, 0.02), (16, 0.05)])
    for _ in range(60):
        curve.observe(1, 0.02)
    assert curve.seconds(1) == pytest.approx(0.02, rel=0.05)
    assert curve.seconds(4) / curve.seconds(1) == pytest.approx(2.0, rel=0.35)
    assert curve.seconds(4) > 0.03


def test_one_pause_is_no_cost() -> None:
    """A step of a second among steps of ten milliseconds moves little, and is forgotten."""
    curve = VerifyCurve([(1, 0.01), (4, 0.02)])
    curve.observe(1, 1.0)
    assert curve.seconds(1) < 0.014
    for _ in range(40):
        curve.observe(1, 0.01)
    assert curve.seconds(1) == pytest.approx(0.01, rel=0.05)


def test_one_point_alone_says_that_every_row_costs_as_much() -> None:
    """Nothing is known of the saving, so none is assumed."""
    assert VerifyCurve([(1, 0.01)]).seconds(5) == pytest.approx(0.05)


def test_points_are_few() -> None:
    """However long it runs."""
    assert len({point_of(rows) for rows in range(1, 2000)}) < 80
    assert all(point_of(rows) == rows for rows in range(1, 17))


@pytest.mark.parametrize(("row_s", "points"), [(0.001, 7), (0.02, 4), (0.3, 1), (0.9, 0)])
def test_loading_tries_as_many_sizes_as_time_allows(row_s: float, points: int) -> None:
    """A step costs ``row_s`` a row; the first of each size is ten times slower and not believed."""
    seen: list[int] = []

    def step_s(rows: int) -> float:
        seen.append(rows)
        return row_s * rows * (10.0 if seen.count(rows) == 1 and row_s < 0.01 else 1.0)

    found = measured(step_s, 128)
    assert found == [(rows, pytest.approx(row_s * rows)) for rows in MEASURED_ROWS[:points]]
    assert measured(step_s, 0) == []
