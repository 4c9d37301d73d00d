"""Rule: a choice says up to what true load it is good, where others send to the same workers unseen; and what a
worker refused leaves nothing behind that a second choice would take for true.
"""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.worker import Load
from router.domain.placement import Ending, Outcome, Placed
from router.domain.snapshot import FleetSnapshot
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.placement.precondition import LEAST_S, SLACK_SHARE, max_queued_prefill_tokens
from tests.support.fleets import SPEED, TARGETS, faster, instance, request, snapshot, worker

seconds = st.floats(0.0, 100.0)
token_s = st.floats(1e-6, 1.0)
INF = float("inf")
FLEET = snapshot(
    worker("fast", instance(speed=faster(SPEED, 2.0)), load=Load(running=1, context_tokens=100)),
    worker("slow", instance()),
)


def placer(replicas: int, policy: str = "cost") -> ComposedPlacer:
    """One of so many replicas."""
    return build_placer(policy, rng=random.Random(0), replicas=replicas)


def placed(by: ComposedPlacer, fleet: FleetSnapshot = FLEET, **changes: object) -> Placed:
    """The choice for a prompt of 1,000 tokens."""
    found = by.place(request(slo=TARGETS, expected_output_tokens=20, **changes), fleet, 0.0)
    assert isinstance(found, Placed)
    return found


@given(seconds, st.floats(-10.0, 10.0) | st.just(INF), seconds | st.just(INF), token_s)
def test_what_was_expected_is_never_a_conflict(wait_s: float, slack_s: float, margin_s: float, one_s: float) -> None:
    """Whatever the targets: where the load is as it was seen, the worker takes the request."""
    most = max_queued_prefill_tokens(wait_s=wait_s, slack_s=slack_s, margin_s=margin_s, token_s=one_s)
    assert most == 0 or most * one_s >= wait_s


@given(seconds, seconds, seconds, token_s)
def test_no_more_may_be_unseen_than_target_and_runner_up_leave(
    wait_s: float, slack_s: float, margin_s: float, one_s: float
) -> None:
    """The smaller of the two decides, and a tenth of a second is always free."""
    most = max_queued_prefill_tokens(wait_s=wait_s, slack_s=slack_s, margin_s=margin_s, token_s=one_s)
    more_s = max(min(SLACK_SHARE * slack_s, margin_s), LEAST_S)
    assert (most - 1) * one_s <= wait_s + more_s + 1e-6 * (wait_s + more_s)


def test_where_neither_target_nor_runner_up_is_there_is_no_condition() -> None:
    """Nothing would be gained by a refusal."""
    assert max_queued_prefill_tokens(wait_s=1.0, slack_s=INF, margin_s=INF, token_s=0.001) == 0


def test_only_replicas_that_share_workers_with_others_set_a_condition() -> None:
    """One router knows what it sent; a policy that knows no time cannot say what would be too much."""
    assert placed(placer(1)).max_queued_prefill_tokens == 0
    assert placed(placer(4)).max_queued_prefill_tokens > 0
    assert placed(placer(4, "least_request")).max_queued_prefill_tokens == 0


def test_the_record_keeps_the_condition() -> None:
    """So that explain can tell what was asked of the worker."""
    one = placer(4)
    asked = request(slo=TARGETS, expected_output_tokens=20)
    choice = one.place(asked, FLEET, 0.0)
    assert isinstance(choice, Placed)
    one.dispatched(asked, choice, 0.0)
    assert one.records.find(asked.request_id)[0].max_queued_prefill_tokens == choice.max_queued_prefill_tokens > 0


@pytest.mark.parametrize("ending", [one for one in Ending if not one.natural])
def test_a_prompt_that_was_never_computed_is_cached_nowhere_and_runs_nowhere(ending: Ending) -> None:
    """Without a first token nothing is known to be computed, however the attempt ended: the second choice sees the
    worker as if the first had not been.
    """
    one, fresh = placer(4), placer(4)
    hashes = tuple(range(15))
    asked = request(slo=TARGETS, expected_output_tokens=20, block_hashes=hashes)
    first = one.place(asked, FLEET, 0.0)
    assert isinstance(first, Placed)
    one.finished(one.dispatched(asked, first, 0.0), Outcome(ending=ending), 0.1)
    again, at_first = placed(one, block_hashes=hashes), placed(fresh, block_hashes=hashes)
    assert again.prediction == at_first.prediction
    assert again.margin_s == at_first.margin_s


def test_blocks_that_were_there_before_stay_when_a_prompt_is_refused() -> None:
    """Only what the refused prompt would have brought is forgotten."""
    one = placer(4)
    head, whole = tuple(range(8)), tuple(range(15))
    before = request(1, slo=TARGETS, expected_output_tokens=20, block_hashes=head)
    first = one.place(before, FLEET, 0.0)
    assert isinstance(first, Placed)
    one.finished(one.dispatched(before, first, 0.0), Outcome(ending=Ending.STOP), 0.1)
    cached = placed(one, block_hashes=whole).prediction.cached_tokens
    assert cached > 0
    longer = request(2, slo=TARGETS, expected_output_tokens=20, block_hashes=whole)
    second = one.place(longer, FLEET, 0.0)
    assert isinstance(second, Placed)
    assert second.worker_id == first.worker_id
    one.finished(one.dispatched(longer, second, 0.2), Outcome(ending=Ending.CONFLICT), 0.3)
    assert placed(one, block_hashes=whole).prediction.cached_tokens == cached


def test_a_prompt_broken_off_after_its_first_token_stays_cached() -> None:
    """Its prefill is done, and engines keep it."""
    one = placer(1)
    hashes = tuple(range(15))
    asked = request(1, slo=TARGETS, block_hashes=hashes)
    first = one.place(asked, FLEET, 0.0)
    assert isinstance(first, Placed)
    one.finished(one.dispatched(asked, first, 0.0), Outcome(ending=Ending.ABORTED, ttft_s=0.5), 1.0)
    assert placed(one, block_hashes=hashes).prediction.cached_tokens > 0


def test_blocks_that_another_request_computes_come_back_when_it_has() -> None:
    """Two prompts with one head: the first is aborted while it waits, the second is answered."""
    one = placer(1)
    hashes = tuple(range(15))
    asked = [request(number, slo=TARGETS, block_hashes=hashes) for number in (1, 2)]
    first = one.place(asked[0], FLEET, 0.0)
    assert isinstance(first, Placed)
    going = [one.dispatched(each, replace(first, decision=None), 0.0) for each in asked]
    one.finished(going[0], Outcome(ending=Ending.ABORTED), 0.1)
    assert placed(one, block_hashes=hashes).prediction.cached_tokens == 0
    one.finished(going[1], Outcome(ending=Ending.STOP, ttft_s=0.5), 1.0)
    assert placed(one, block_hashes=hashes).prediction.cached_tokens > 0
