"""Rule: a draft worker is in the fleet and in no pool: nobody's request goes there, and no list has its model."""

from dataclasses import replace

import pytest

from loadtest.simulate.router_side import SimulatedSession
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from router.domain.placement import NoCandidate
from router.domain.snapshot import WorkerView
from router.domain.worker import WorkerState
from tests.support.fleets import instance, request, worker
from tests.support.scheduling import Pool, sends

pytestmark = pytest.mark.holds_claims

DRAFT, TARGET = WorkerId("mini"), WorkerId("mac")
REPORT = DraftReport(model="m", quantization="q8_0", draft_worker_id=DRAFT, rounds=3)


def join_draft(pool: Pool, name: str = "m") -> WorkerView:
    """With a model of that name."""
    view = worker("mini", instance("q4_0", model=name))
    profile = replace(view.profile, draft_address="10.0.0.7:1")
    pool.membership.join(SimulatedSession(DRAFT, 99), profile, view.models, cordoned=False)
    return next(one for one in pool.membership.snapshot().workers if one.worker_id == DRAFT)


def test_its_model_is_a_draft_and_is_neither_served_nor_listed() -> None:
    """It is ready all the same."""
    pool = Pool()
    view = join_draft(pool)
    assert view.state is WorkerState.READY
    assert (view.models, [one.model for one in view.drafts]) == ((), ["m"])
    assert pool.membership.served_models() == ()
    assert pool.membership.known_models() == ()
    assert isinstance(pool.placer.place(request(1), pool.membership.snapshot(), 0.0), NoCandidate)


def test_requests_for_a_model_of_the_same_name_go_where_it_is_served() -> None:
    """However idle the draft is."""
    pool = Pool()
    join_draft(pool)
    pool.join("mac")
    for number in range(4):
        (send,) = sends(pool.arrive(request(number)))
        assert send.placed.worker_id == TARGET


def test_how_a_target_gets_on_is_kept_for_its_own_models_and_forgotten_with_its_session() -> None:
    """What a worker says of models that it does not have is not kept."""
    pool = Pool()
    pool.join("mac")
    member = pool.membership.member(TARGET)
    assert member is not None
    pool.membership.set_draft(member, REPORT)
    pool.membership.set_draft(member, replace(REPORT, model="other"))

    def kept() -> tuple[DraftReport, ...]:
        return next(one.drafting for one in pool.membership.snapshot().workers if one.worker_id == TARGET)

    assert kept() == (REPORT,)
    pool.membership.set_draft(member, replace(REPORT, rounds=4))
    assert [one.rounds for one in kept()] == [4]
    pool.leave("mac")
    pool.join("mac")
    assert kept() == ()
