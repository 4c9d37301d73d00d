"""Cells of ``make bench-placement`` are kept only as long as the code they measured."""

from pathlib import Path

import pytest

from loadtest.bench.placement_cells import CODE

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("pattern", CODE)
def test_all_code_that_decides_the_figures_is_where_the_fingerprint_looks(pattern: str) -> None:
    """Code that was moved away would change, and old cells would still be taken for its own."""
    assert any(ROOT.glob(pattern))
