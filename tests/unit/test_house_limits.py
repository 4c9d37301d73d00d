"""The house stays one to live in: modules that are read in one go, packages that are seen at a glance, no cycles."""

import graphlib
from collections.abc import Mapping
from pathlib import Path

import grimp
import pytest

from loadtest.bench.house.size import PARTS, module_lines, package_modules

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
MOST_MODULES = 14  # ``__init__`` not counted


def over(counts: Mapping[str, int], limit: int) -> list[str]:
    """Those over the limit, largest first, each with its count."""
    found = sorted(counts.items(), key=lambda one: -one[1])
    return [f"{name} has {count}" for name, count in found if count > limit]


def cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import one another in a ring; empty: there are none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("part", [*PARTS, "tests"])
def test_no_module_is_longer_than_one_reads_in_one_go(part: str) -> None:
    """Split it by meaning into two with names that say what lives there. Tests keep to it as well."""
    assert over(module_lines(ROOT / part), MOST_LINES) == []


def test_no_package_holds_more_modules_than_one_sees_at_a_glance() -> None:
    """Give what belongs together a package of its own. Tests mirror the packages, file by file."""
    assert over(package_modules(ROOT), MOST_MODULES) == []


def test_no_module_imports_itself_in_a_ring() -> None:
    """Imports for types alone count, and those inside functions; so do the ``__init__`` of packages."""
    graph = grimp.build_graph(*PARTS, cache_dir=None)
    assert cycle({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}) == []


def test_the_checks_find_what_is_over_a_limit_and_a_ring() -> None:
    assert over({"a": 14, "b": 15, "c": 20}, 14) == ["c has 20", "b has 15"]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
