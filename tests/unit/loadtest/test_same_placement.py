"""Two runs of the short grid are equal only where every figure and every request is."""

import json
from typing import Any

import pytest

from loadtest.bench import short_grid
from loadtest.bench.house.same_placement import differences

pytestmark = pytest.mark.holds_claims


def _cell(name: str = "a", *, goodput: float = 1.0, end: float = 2.0) -> dict[str, Any]:
    row = [7, "node", "q8_0", "", 0.5, 1.0, end, 16]
    return {"name": name, "figures": {"goodput": goodput, "missed": 3}, "requests": [row]}


def test_equal_runs_have_no_differences() -> None:
    """Nothing is told where nothing changed."""
    assert differences([_cell("a"), _cell("b")], [_cell("a"), _cell("b")]) == []


def test_a_figure_that_changed_is_told_with_both_values() -> None:
    """The last digit counts."""
    (one,) = differences([_cell()], [_cell(goodput=1.0 + 1e-12)])
    assert one.figures == {"goodput": (1.0, 1.0 + 1e-12)}
    assert one.requests == 0


def test_a_request_that_took_another_way_is_told_even_where_all_figures_are_equal() -> None:
    """Sums can hide two changes that cancel."""
    (one,) = differences([_cell()], [_cell(end=2.5)])
    assert one.figures == {}
    assert one.requests == 1
    assert "2.5" in str(one)


def test_a_cell_that_only_one_run_has_is_a_difference() -> None:
    """A grid that was cut short proves nothing."""
    assert [one.name for one in differences([_cell("a")], [_cell("a"), _cell("b")])] == ["b"]
    assert [one.name for one in differences([_cell("a"), _cell("b")], [_cell("a")])] == ["b"]


def test_the_grids_cells_have_names_of_their_own() -> None:
    """They are compared by name."""
    names = [cell.name for cell in short_grid.grid()]
    assert len(names) == len(set(names))


def test_a_cell_played_twice_is_the_same_to_the_last_digit() -> None:
    """Seeds fix everything; what is written and read again is still equal."""
    cell = next(cell for cell in short_grid.grid() if cell.name == "home_lab azure-like 1 cost")
    first, second = short_grid.play(cell), short_grid.play(cell)
    assert differences([first], [second]) == []
    assert json.loads(json.dumps(first["figures"])) == second["figures"]
