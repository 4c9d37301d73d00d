"""Rule: a choice that did not hold is no failure, and a request cannot be sent from conflict to conflict for ever."""

from protos.contract.ids import WorkerId
from router.dispatch.request_state import Journey
from router.dispatch.retry_policy import MOST_CONFLICTS, condition_of
from router.domain.placement import Placed
from router.domain.request import ModelRef
from tests.support.fleets import request

PLACED = Placed(worker_id=WorkerId("w"), node="w", model="m", quantization="q8_0", most_pending_tokens=700)


def test_a_choice_travels_with_its_condition_until_it_was_refused_often_enough() -> None:
    """Then it goes without: the worker takes it whatever waits there."""
    found = [condition_of(request(), PLACED, conflicts) for conflicts in range(MOST_CONFLICTS + 2)]
    assert found == [700] * MOST_CONFLICTS + [0, 0]


def test_who_has_nowhere_else_to_go_carries_no_condition() -> None:
    """A pinned request, and an answer that goes on."""
    assert condition_of(request(model=ModelRef(name="m", pinned="q8_0")), PLACED, 0) == 0
    assert condition_of(request(), PLACED, 0, continuation=True) == 0


def test_a_conflict_makes_no_request_one_that_was_tried_before() -> None:
    """It waits, is judged and is shed as at first; after a failure it goes ahead as a continuation does."""
    journey = Journey(request())
    journey.attempts = journey.conflicts = 1
    assert not journey.tried
    journey.attempts = 2
    assert journey.tried
