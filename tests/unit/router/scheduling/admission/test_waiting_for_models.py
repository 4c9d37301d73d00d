"""Rule: who asks for a model that may come back, or is being brought up, waits for it; who would wait in vain is told
why.
"""

from dataclasses import replace

import pytest

from router.domain.request import ModelRef
from router.domain.snapshot import WantedModel
from router.domain.worker import WorkerState
from tests.support.admission import SLOTS, admission, pool, sent, shed
from tests.support.fleets import changed, instance, request, snapshot, worker

pytestmark = pytest.mark.holds_claims


def test_a_model_nobody_ever_served_is_refused_as_unknown() -> None:
    """Waiting would not help."""
    gate = admission()
    gate.arrive(request(1, model=ModelRef(name="nonesuch")), 0.0)
    (refused,) = shed(gate.pump(pool(), 0.0))
    assert refused.code == "unknown_model"
    assert "nonesuch" in refused.reason


def test_who_waits_for_a_worker_that_is_away_is_told_so_after_a_while() -> None:
    """A Mac that sleeps may wake up; patience has an end."""
    gate = admission(patience_s=20.0)
    away = changed(pool(), "w", state=WorkerState.ASLEEP)
    gate.arrive(request(1), 0.0)
    assert gate.pump(away, 0.0) == []
    assert gate.next_wakeup() == pytest.approx(20.0)
    (refused,) = shed(gate.pump(changed(away, "w", rtt_s=0.001), 20.0))
    assert refused.code == "no_worker"
    assert "w@q8_0: worker is asleep" in refused.reason


def test_a_router_that_has_just_started_waits_for_the_quantization_that_may_come_back() -> None:
    """Others of the model are back already; at any other time the pin is refused at once."""
    pinned = request(1, model=replace(request(1).model, pinned="q4_0"))
    started = replace(pool(), expected_models=frozenset({pinned.model.name}))
    for known, waits in ((started, True), (pool(), False)):
        gate = admission(patience_s=20.0)
        gate.arrive(pinned, 0.0)
        assert (gate.pump(known, 0.0) == []) is waits


def test_a_request_for_a_model_that_is_brought_up_waits_until_its_deadline() -> None:
    """Neither the pool's patience nor its longest wait end it; once somebody serves the model it goes there."""
    asked = replace(request(1), deadline_at=100.0, model=replace(request(1).model, name="away"))
    coming = replace(pool(), wanted={"away": WantedModel()})
    gate = admission(patience_s=2.0, longest_wait_s=5.0)
    gate.arrive(asked, 0.0)
    for now in (0.0, 3.0, 10.0, 99.0):
        assert gate.pump(coming, now) == []
    (refused,) = shed(gate.pump(coming, 100.5))
    assert refused.code == "deadline"
    gate.arrive(replace(asked, request_id=request(2).request_id, deadline_at=200.0), 101.0)
    assert [gate.pump(coming, now) for now in (101.0, 150.0)] == [[], []]
    here = snapshot(worker("w", replace(instance(slots=SLOTS), model="away")), at=151.0)
    assert len(sent(gate.pump(here, 151.0))) == 1


def test_one_for_a_model_that_cannot_be_brought_up_is_refused_at_once_with_the_reason() -> None:
    """The machines are there, and none can be given it."""
    asked = replace(request(1), model=replace(request(1).model, name="away"))
    stuck = replace(pool(), wanted={"away": WantedModel(blocked="box: needs 9 GiB of 8")})
    gate = admission(patience_s=2.0)
    gate.arrive(asked, 0.0)
    (refused,) = shed(gate.pump(stuck, 0.0))
    assert (refused.code, refused.reason) == ("no_worker", "away cannot be brought up: box: needs 9 GiB of 8")


@pytest.mark.parametrize("why", ["its worker is asleep", "no worker is in the pool", "the router has just started"])
def test_one_whose_machine_may_come_back_waits_as_long_as_others_do(why: str) -> None:
    """Whatever could not be planned without that machine."""
    asked = request(1)
    name = asked.model.name
    base = {
        "its worker is asleep": changed(pool(), "w", state=WorkerState.ASLEEP),
        "no worker is in the pool": replace(pool(), workers=()),
        "the router has just started": replace(pool(), workers=(), expected_models=frozenset({name})),
    }[why]
    gate = admission(patience_s=2.0)
    gate.arrive(asked, 0.0)
    stuck = replace(base, wanted={name: WantedModel(blocked="no node is one for it")})
    assert gate.pump(stuck, 0.0) == []
    (refused,) = shed(gate.pump(stuck, 2.5))
    assert "no node is one for it" in refused.reason


def test_a_quantization_that_nobody_wants_is_not_waited_for() -> None:
    """It is pinned, and the file names others."""
    pinned = replace(request(1), model=replace(request(1).model, name="away", pinned="q2_k"))
    for quantizations, waits in ((("q8_0",), False), (("q2_k",), True), ((), True)):
        gate = admission(patience_s=2.0)
        gate.arrive(pinned, 0.0)
        assert gate.pump(replace(pool(), wanted={"away": WantedModel(quantizations=quantizations)}), 0.0) == []
        later = gate.pump(replace(pool(), wanted={"away": WantedModel(quantizations=quantizations)}), 2.5)
        assert (later == []) is waits
