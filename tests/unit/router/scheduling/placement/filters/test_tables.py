"""Rule: a filter is one name and one line of a table; what its exclusions mean is told by the name."""

import numpy as np
import pytest

from router.domain.placement import FilterName
from router.domain.worker import WorkerState
from router.scheduling.placement.filters.dynamic import DYNAMIC_FILTERS, Demand, all_pass, passing
from router.scheduling.placement.filters.static import STATIC_FILTERS, rules_of, static_exclusion
from router.scheduling.placement.quality import TabulatedQuality
from tests.support.fleets import instance, request, worker
from tests.support.placements import figures

NOW = 100.0
DEMAND = Demand(prompt_tokens=1000.0, max_tokens=100.0, expected_tokens=200.0)
TABLES = ([one.name for one in STATIC_FILTERS], [one.name for one in DYNAMIC_FILTERS])


def test_every_name_stands_in_one_table() -> None:
    """But for two: a worker without the model is no candidate at all, and whom to avoid the caller says."""
    named = [*TABLES[0], *TABLES[1]]
    assert sorted(named) == sorted(set(FilterName) - {FilterName.MODEL, FilterName.AVOID})


@pytest.mark.parametrize("table", TABLES)
def test_what_lasts_is_asked_before_what_passes(table: list[FilterName]) -> None:
    """Else a worker that could never serve the request would read as one worth waiting for."""
    lasting = [one.lasting for one in table]
    assert lasting == sorted(lasting, reverse=True)


def test_no_exclusion_both_lasts_and_passes_with_load() -> None:
    """And of each it is said what a client reads."""
    assert not any(one.lasting and one.busy for one in FilterName)
    assert all(one.label for one in FilterName)
    assert FilterName("kv") is FilterName.KV == "kv"


def test_a_lasting_reason_is_told_before_a_passing_one() -> None:
    """A draining worker with the wrong quantization: the quantization."""
    held = instance("q4_k_m")
    view = worker("w", held, state=WorkerState.DRAINING)
    rules = rules_of(request(1))._replace(pinned="q8_0")
    found = static_exclusion(view, held, rules, TabulatedQuality())
    assert found is not None
    assert found.filter is FilterName.PIN


@pytest.mark.parametrize(
    ("beyond", "passes"),
    [
        ({}, True),
        ({"context_limit": 1100.0}, True),
        ({"context_limit": 1099.0}, False),
        ({"kv_free": 1200.0}, True),
        ({"kv_free": 1199.0}, False),
        ({"suspended_until": NOW}, True),
        ({"suspended_until": NOW + 0.1}, False),
    ],
)
def test_the_extremes_tell_what_comparing_all_would(beyond: dict[str, float], passes: bool) -> None:
    """One candidate at or beyond a bound, among others that are not."""
    data = np.stack([figures(), figures(**beyond), figures()], axis=1)
    assert passing(data, DEMAND, NOW).tolist() == [True, passes, True]
    assert all_pass(data, DEMAND, NOW) is passes
