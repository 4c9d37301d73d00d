"""Rule: what is drawn does not depend on what is imported."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

UNLIKELY = 7_919_117


def drawn() -> list[int]:
    """Of one seed."""
    found: list[int] = []

    @seed(1)
    @settings(max_examples=200, database=None)
    @given(st.integers(0, 10**7))
    def draw(number: int) -> None:
        found.append(number)

    draw()
    return found


def test_constants_of_a_module_that_is_loaded_meanwhile_are_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    loaded = ModuleType("own_constants")
    (tmp_path / "own_constants.py").write_text(f"BOUND = {UNLIKELY}\n")
    loaded.__file__ = str(tmp_path / "own_constants.py")
    loaded.__spec__ = None
    monkeypatch.setitem(sys.modules, "own_constants", loaded)
    assert drawn() == before
    assert UNLIKELY not in before
