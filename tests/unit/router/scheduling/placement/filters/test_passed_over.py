"""Rule: who is passed over is known by which filter at once, and the reasons are the same whenever they are written."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from protos.contract.ids import WorkerId
from protos.contract.worker import Load
from router.domain.placement import Exclusion, Exclusions, FilterName
from router.scheduling.placement.filters.dynamic import Demand
from router.scheduling.placement.filters.passed_over import PassedOver
from tests.support.fleets import instance, worker
from tests.support.placements import figures

NOW = 100.0
DEMAND = Demand(prompt_tokens=1000.0, max_tokens=100.0, expected_tokens=200.0)
HELD = instance("q8_0")
CASES: list[tuple[dict[str, Any], dict[str, float], FilterName]] = [
    ({}, {"context_limit": 10.0, "kv_free": 10.0, "suspended_until": NOW + 5.0}, FilterName.CONTEXT),
    ({"suspended_until": NOW + 5.0}, {"suspended_until": NOW + 5.0, "kv_free": 10.0}, FilterName.SUSPENDED),
    ({"probing": True}, {"suspended_until": np.inf, "kv_free": 10.0}, FilterName.PROBING),
    ({"probing": True}, {"kv_free": 10.0}, FilterName.KV),
    ({}, {}, FilterName.AVOID),
]
"""What stands in a worker's way, in its view and its figures, and the filter that says so."""


def passed_over(*numbers: int) -> PassedOver:
    """These of the cases."""
    cases = [CASES[number] for number in numbers]
    return PassedOver(
        [(worker(f"w{number}", HELD, load=Load(), **CASES[number][0]), HELD) for number in numbers],
        np.stack([figures(**beyond) for _, beyond, _ in cases], axis=1),
        ruled_out=np.array([name is FilterName.AVOID for _, _, name in cases]),
        demand=DEMAND,
        now=NOW,
    )


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_first_bound_not_kept_is_the_reason(number: int) -> None:
    """Suspended and proving itself share a column; the view says which."""
    (found,) = passed_over(number).write(1)
    assert found.filter is CASES[number][2]
    assert found.reason


def test_all_together_are_each_alone() -> None:
    """Reasons, and how many there are of each kind."""
    together = passed_over(0, 1, 2, 3, 4, 0, 3)
    alone = tuple(passed_over(number).write(1)[0] for number in (0, 1, 2, 3, 4, 0, 3))
    assert together.write(100) == alone
    assert together.write(2) == alone[:2]
    assert together.counts() == Counter(one.filter for one in alone)
    assert list(together.avoided()) == ["w4"]


def test_exclusions_are_the_same_before_and_after_they_are_written() -> None:
    """Length, kinds and equality; a record keeps the first, and counts of the others."""
    known = (Exclusion(worker_id=WorkerId("k"), node="k", filter=FilterName.LABELS, reason="why"),)
    late = Exclusions(known, passed_over(0, 3, 3, 4))
    kinds = {FilterName.LABELS, FilterName.CONTEXT, FilterName.KV, FilterName.AVOID}
    assert (len(late), late.filters()) == (5, kinds)
    assert late.filters(apart_from=frozenset({WorkerId("w4")})) == kinds - {FilterName.AVOID}
    brief = late.brief(2)
    assert [one.filter for one in brief] == [FilterName.LABELS, FilterName.CONTEXT, FilterName.KV]
    assert brief.omitted == {FilterName.KV: 1, FilterName.AVOID: 1}
    written = Exclusions(tuple(late))
    assert (len(late), late.filters()) == (5, kinds)
    assert late == written
    assert late != Exclusions(known)
    assert written.filters(apart_from=frozenset({WorkerId("w4")})) == kinds - {FilterName.AVOID}
    assert written.brief(2) == written
