"""A measurement that others disturbed is made again, and never more often than is said."""

import itertools

import pytest

from loadtest.bench import quiet
from loadtest.bench.quiet import TRIES, Quiet


def others_keep(monkeypatch: pytest.MonkeyPatch, cpus: list[float]) -> None:
    """So many processors busy during the first, second, … measurement of ten seconds."""
    marks = []
    for number, busy in enumerate(cpus):
        marks += [(100.0 * number, 50.0), (100.0 * number + 10.0, 50.0 + 10.0 * busy)]
    monkeypatch.setattr(quiet, "_now", iter(marks).__next__)


@pytest.mark.parametrize(
    ("busy", "result", "tries", "others"),
    [([0.1], 1, 1, 0.1), ([0.9, 1.5, 0.2], 3, 3, 0.2), ([0.9, 0.8, 0.7, 0.0], TRIES, TRIES, 0.7)],
)
async def test_the_first_quiet_one_counts_or_the_last(
    busy: list[float], result: int, tries: int, others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How busy others were decides, not what was measured; both are kept."""
    others_keep(monkeypatch, busy)
    numbers, said = itertools.count(1), []

    async def measure() -> int:
        return next(numbers)

    kept = Quiet(said.append)
    assert await kept.measured("load", measure) == result
    assert kept.tries == {"load": tries}
    assert kept.others_cpus == {"load": others}
    assert len(said) == tries - 1
