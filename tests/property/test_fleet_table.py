"""Rule: however workers come, go and change, the table says what one made of the last snapshot alone would say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.speed_model import SpeedModel
from router.scheduling.placement.candidates import InstanceKey
from router.scheduling.placement.columns import PROGRESS, Column
from router.scheduling.placement.filters.static import rules_of
from router.scheduling.placement.fleet_table import FleetTable
from router.scheduling.placement.quality import TabulatedQuality
from tests.support.fleets import SPEED, request, snapshot
from tests.support.placements import DETERMINISTIC, NOW, requests, views

NAMES = ("w0", "w1", "w2", "w3")
workers = st.permutations(NAMES).flatmap(lambda names: st.lists(st.sampled_from(names), unique=True))


@st.composite
def histories(draw: st.DrawFn) -> list[FleetSnapshot]:
    """Snapshots of workers of which each has two views; where one stays, it is the same object, as in the fleet."""
    known = {name: [draw(views(name)), draw(views(name))] for name in NAMES}
    found = []
    for _ in range(draw(st.integers(2, 6))):
        here: list[WorkerView] = [draw(st.sampled_from(known[name])) for name in draw(workers)]
        found.append(snapshot(*here, at=NOW))
    return found


def table(prefixes: PrefixIndex) -> FleetTable:
    """One that has seen nothing."""
    return FleetTable(SpeedModel(lambda _hardware, _instance: SPEED), prefixes, TabulatedQuality())


@settings(DETERMINISTIC, max_examples=150)
@given(history=histories(), asked=st.lists(requests(), min_size=1, max_size=2), whole=st.booleans())
def test_it_says_what_one_made_of_the_last_snapshot_says(
    history: list[FleetSnapshot], asked: list[InferenceRequest], whole: bool
) -> None:
    """Figures, candidates and reasons; what an instance's history decides is left out. Also one worker at a time."""
    prefixes = PrefixIndex()
    lasting, fresh = table(prefixes), table(PrefixIndex())
    rules = [rules_of(request(1)), *(rules_of(one) for one in asked)]
    for seen in history:
        for view in () if whole else seen.workers:
            lasting.refresh_worker(seen, view.worker_id)
        lasting.refresh(seen)
        for one in rules:
            lasting.eligible(one)
    fresh.refresh(history[-1])
    keys = [key for view in history[-1].workers for key in lasting.keys_of(view.worker_id)]
    assert keys == [key for view in history[-1].workers for key in fresh.keys_of(view.worker_id)]
    assert [lasting.row(key) for key in keys] == list(range(len(keys)))
    assert [lasting.at(row) for row in range(len(keys))] == [fresh.at(row) for row in range(len(keys))]
    of_its_history = {*PROGRESS.columns, Column.OUTSTANDING}
    for column in set(Column) - of_its_history:
        assert lasting.data[column].tolist() == fresh.data[column].tolist(), column.name
    for one in rules:
        now, then = lasting.eligible(one), fresh.eligible(one)
        assert now.rows.tolist() == then.rows.tolist()
        assert (now.keys, now.nodes, now.exclusions) == (then.keys, then.nodes, then.exclusions)
        mine, theirs = lasting.candidates(now).curves, fresh.candidates(then).curves
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert mine.speeds.tolist() == theirs.speeds.tolist()
            for tokens in (1.0, 300.0, 6000.0):
                asked_for = np.full(len(now.rows), tokens)
                assert mine.beside_the_line_s(asked_for).tolist() == theirs.beside_the_line_s(asked_for).tolist()
        assert now.index_rows.tolist() == [prefixes.index_row(key) for key in now.keys]


@settings(DETERMINISTIC, max_examples=50)
@given(history=histories())
def test_what_this_router_has_running_stays_with_its_instance(history: list[FleetSnapshot]) -> None:
    """Wherever its row is, as long as it is there."""
    lasting = table(PrefixIndex())
    running: dict[InstanceKey, int] = {}
    for number, seen in enumerate(history, start=1):
        lasting.refresh(seen)
        here = [key for view in seen.workers for key in lasting.keys_of(view.worker_id)]
        running = {key: count for key, count in running.items() if key in here}
        for key in here:
            row = lasting.row(key)
            assert row is not None
            assert lasting.data[Column.OUTSTANDING, row] == running.get(key, 0)
            running[key] = number
            lasting.set_outstanding(key, number)
