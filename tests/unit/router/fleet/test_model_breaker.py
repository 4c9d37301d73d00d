"""A model that fails on its worker is set aside alone."""

from dataclasses import replace

import pytest

from protos.contract.ids import WorkerId
from protos.contract.stream import RefusalCode
from protos.contract.worker import InstanceState
from router.domain.placement import FilterName, NoCandidate
from router.http.admin.fleet_view import fleet_body
from router.scheduling.events import Tick
from tests.support.fleets import instance, request
from tests.support.scheduling import Pool, sends

pytestmark = pytest.mark.holds_claims

WORKER = WorkerId("a")
BAD = ("m", "q8_0")


@pytest.fixture
def pool() -> Pool:
    """One worker with two models."""
    one = Pool()
    one.join("a")
    member = one.membership.member(WORKER)
    assert member is not None
    one.membership.set_model(member, instance(model="other"))
    return one


def test_the_other_models_of_the_worker_go_on(pool: Pool) -> None:
    """A server whose one model answers 500 has another that answers well."""
    pool.membership.failed(WORKER, "it exploded", model=BAD)
    assert sends(pool.arrive(request(1))) == []
    (send,) = sends(pool.arrive(request(2, model=replace(request(2).model, name="other"))))
    assert send.placed.model == "other"


def test_the_reason_and_how_long_are_told(pool: Pool) -> None:
    """To explain, and in the fleet's table."""
    pool.membership.failed(WORKER, "it exploded", model=BAD)
    snapshot = pool.membership.snapshot()
    refused = pool.placer.place(request(1), snapshot, pool.clock.now())
    assert isinstance(refused, NoCandidate)
    (why,) = [one for one in refused.exclusions if one.filter is FilterName.SUSPENDED]
    assert "it exploded" in why.reason
    rows = {one["model"]: one for one in fleet_body(snapshot)["workers"][0]["models"]}
    assert rows["m"]["suspended_reason"] == "it exploded"
    assert rows["m"]["suspended_s"] > 0
    assert rows["other"]["suspended_reason"] == ""


def test_what_is_loaded_anew_has_failed_nobody(pool: Pool) -> None:
    """A restart of the engine forgives what the old one did."""
    pool.membership.failed(WORKER, "it exploded", model=BAD)
    member = pool.membership.member(WORKER)
    assert member is not None
    ready = member.models[BAD]
    pool.membership.set_model(member, replace(ready, state=InstanceState.LOADING))
    pool.membership.set_model(member, ready)
    assert len(sends(pool.arrive(request(1)))) == 1


def test_each_failure_in_a_row_doubles_the_pause_up_to_its_bound(pool: Pool) -> None:
    member = pool.membership.member(WORKER)
    assert member is not None
    pauses = []
    for _ in range(8):
        pool.membership.failed(WORKER, "it exploded", model=BAD)
        until = member.model_breakers[BAD].open_until
        pauses.append(until - pool.clock.now())
        pool.clock.set(until)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_it_proves_itself_though_the_worker_is_busy_with_its_other_models(pool: Pool) -> None:
    """One request of its own at a time; what others run there says nothing of it."""
    pool.membership.failed(WORKER, "it exploded", model=BAD)
    other = replace(request(1).model, name="other")
    pool.accept(sends(pool.arrive(request(1, model=other)))[0])
    pool.load("a", running=1)
    pool.clock.advance(60.0)
    pool.tell(Tick())
    (proof,) = sends(pool.arrive(request(2)))
    assert sends(pool.arrive(request(3))) == []
    pool.send(proof)
    pool.refuse(proof, RefusalCode.ENGINE_FAILED)
    member = pool.membership.member(WORKER)
    assert member is not None
    assert member.model_breakers[BAD].failures == 2
