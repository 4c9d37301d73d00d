"""Rule: a prompt's prefill is priced by what those who run can spare of their TPOT target."""

import random

import pytest

from protos.contract.worker import Load
from router.domain.placement import Outcome, Placed
from router.domain.snapshot import FleetSnapshot
from router.scheduling.admission.interfaces import Admitted
from router.scheduling.estimators.tpot_lead import Progress, Slack, SlackTracker
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.interfaces import Dispatched
from router.scheduling.placement.placer import ComposedPlacer
from tests.support.admission import Gate
from tests.support.fleets import SPEED, TARGETS, changed, instance, request, snapshot, worker

TOKEN_S = 0.001


def book() -> SlackTracker:
    """One request of 500 tokens behind 500 others, target 0.1 s."""
    found = SlackTracker()
    found.observed(Progress(0.0, 100, 10_000, 500, 0, True), TOKEN_S)
    found.dispatched("r", 0.0, prefill_tokens=1000, target_s=0.1, ttft_s=1.0, tpot_s=0.05)
    return found


def test_a_request_leads_by_its_target_times_its_tokens_less_the_time_they_took() -> None:
    """First token at 1 s and step 110, then 20 steps in 1.2 s: 2.0 - 1.2 s ahead."""
    runs = book()
    runs.observed(Progress(1.0, 110, 11_000, 0, 0, True), TOKEN_S)
    assert runs.observed(Progress(2.2, 130, 11_000, 0, 0, True), TOKEN_S) == pytest.approx(Slack(low=1, low_lead_s=0.8))


def test_what_is_prefilled_before_its_first_token_is_no_stall_of_its_own() -> None:
    """700 tokens are still before it: 0.7 s of the pending prefill do not hold it up."""
    assert book().observed(Progress(0.3, 101, 10_300, 700, 0, True), TOKEN_S) == pytest.approx(
        Slack(low=1, low_lead_s=0.7)
    )


def test_who_leads_by_more_than_a_second_stands_apart() -> None:
    """So that a few who can spare nothing are not hidden by many who can."""
    runs = book()
    runs.observed(Progress(1.0, 110, 11_000, 0, 0, True), TOKEN_S)
    assert runs.observed(Progress(2.0, 150, 11_000, 0, 0, True), TOKEN_S) == pytest.approx(
        Slack(high=1, high_lead_s=3.0)
    )


def test_who_is_past_saving_has_no_say() -> None:
    """Five seconds behind: nobody waits for its sake."""
    runs = book()
    runs.observed(Progress(1.0, 110, 11_000, 0, 0, True), TOKEN_S)
    assert runs.observed(Progress(7.0, 120, 11_000, 0, 0, True), TOKEN_S) == Slack()


def test_an_engine_that_reports_no_steps_is_taken_at_its_prediction() -> None:
    """50 ms a token against a target of 100: it gains as much as it takes."""
    runs = book()
    runs.observed(Progress(2.0, 0, 0, 0, 0, False), TOKEN_S)
    runs.dispatched("s", 2.0, prefill_tokens=10, target_s=0.1, ttft_s=1.0, tpot_s=0.05)
    runs.observed(Progress(4.0, 0, 0, 0, 0, False), TOKEN_S)
    assert runs.observed(Progress(4.5, 0, 0, 0, 0, False), TOKEN_S) == pytest.approx(Slack(low=1, low_lead_s=0.5))


def test_an_engine_that_started_anew_runs_none_of_them() -> None:
    """Its count of prefilled tokens went back."""
    runs = book()
    assert runs.observed(Progress(1.0, 0, 0, 0, 0, True), TOKEN_S) == Slack()
    assert len(runs) == 0


def busy(lead_s: float) -> tuple[ComposedPlacer, FleetSnapshot, Dispatched]:
    """One worker with one request of ours that leads its target by so much, with a second of prefill left to nobody."""
    placer = build_placer("cost", rng=random.Random(0))
    fleet = snapshot(worker("w", instance(speed=SPEED, kv_capacity_tokens=0)))
    first = request("first", slo=TARGETS, expected_output_tokens=20)
    placed = placer.place(first, fleet, 0.0)
    assert isinstance(placed, Placed)
    going = placer.dispatched(first, placed, 0.0)
    fleet = changed(fleet, "w", load=load(1.0, 10))
    placer.observed(fleet, placed.worker_id, 1.0)
    fleet = changed(fleet, "w", load=load(2.0, 10 + round((1.0 + lead_s) / 0.1)))
    placer.observed(fleet, placed.worker_id, 2.0)
    return placer, fleet, going


def load(at: float, steps: int) -> Load:
    """One request decodes, nothing is left to prefill."""
    return Load(
        observed_at=at,
        running=1,
        context_tokens=1000,
        expected_remaining_tokens=20,
        step_sequence=steps,
        prefill_progress=1000,
        last_step_s=0.02,
        last_step_batch=1,
    )


def violations(lead_s: float, prompt: int = 1000) -> float:
    """Expected misses among those running that a prompt causes."""
    placer, fleet, _ = busy(lead_s)
    asked = request("next", slo=TARGETS, prompt_tokens_estimate=prompt, expected_output_tokens=20, arrived_at=2.0)
    placed = placer.place(asked, fleet, 2.0)
    assert isinstance(placed, Placed)
    return placed.prediction.expected_slo_violations


def test_a_prompt_costs_nobody_his_target_whose_lead_outlasts_its_prefill() -> None:
    """Half a second of prefill: a lead of 0.7 s takes it, one of 0.2 s may not, none takes it least."""
    assert violations(0.7) == 0.0
    assert 0.0 < violations(0.2) < violations(0.0) < 1.0


def test_a_longer_prompt_costs_more_of_them_theirs() -> None:
    """Monotone, and never more than all of those running."""
    shares = [violations(0.2, prompt) for prompt in (200, 1000, 3000, 6000)]
    assert shares == sorted(shares)
    assert shares[-1] <= 1.0


def test_admission_holds_a_prompt_back_until_those_who_run_can_spare_its_prefill() -> None:
    """The same request, the same worker: it waits while nobody has a lead, and goes when they have."""
    for lead_s, goes in ((0.0, False), (0.8, True)):
        placer, fleet, _ = busy(lead_s)
        admission = Gate(placer)
        admission.arrive(request("next", slo=TARGETS, expected_output_tokens=20, arrived_at=2.0), 2.0)
        decisions = admission.pump(fleet, 2.0)
        assert [isinstance(one, Admitted) for one in decisions] == ([True] if goes else [])


def test_the_end_of_a_request_ends_its_say() -> None:
    """After the next load nobody is held back for it."""
    placer, fleet, going = busy(0.0)
    placer.finished(going, Outcome(ttft_s=1.0, e2e_s=2.0, completion_tokens=10), 2.0)
    fleet = changed(fleet, "w", load=load(2.1, 21))
    asked = request("next", slo=TARGETS, expected_output_tokens=20, arrived_at=2.1)
    found = placer.place(asked, fleet, 2.1)
    assert isinstance(found, Placed)
    assert found.prediction.expected_slo_violations == 0.0
