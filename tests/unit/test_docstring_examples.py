"""Examples in docstrings of pure modules say what is true."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

PURE = (
    "protos.contract",
    "router.domain",
    "router.capacity",
    "router.scheduling",
    "router.fleet",
    "router.http.dialects",
)


def modules() -> Iterator[str]:
    """Every module of the pure packages."""
    for name in PURE:
        package = importlib.import_module(name)
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{name}."))


def examples(name: str) -> list[doctest.DocTest]:
    """Those of one module."""
    module = importlib.import_module(name)
    return [one for one in doctest.DocTestFinder().find(module) if one.examples]


WITH_EXAMPLES = [name for name in modules() if examples(name)]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_come_out_as_written(name: str) -> None:
    """Word for word."""
    runner = doctest.DocTestRunner(verbose=False)
    for one in examples(name):
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_examples() -> None:
    """In a dozen modules at least: those a newcomer opens first."""
    assert len(WITH_EXAMPLES) >= 12
