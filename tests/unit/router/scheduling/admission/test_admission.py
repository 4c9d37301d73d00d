"""Rule: what can be placed well goes at once, what cannot waits in a bounded, fair queue, and what would wait in vain
is refused early, with the reason and an honest Retry-After.
"""

import weakref
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from loadtest.simulate.cases import Case, run_at
from protos.contract.worker import Load
from router.domain.ids import Tenant
from router.domain.request import InferenceRequest, ModelRef
from router.scheduling.admission.interfaces import Decision
from router.scheduling.admission.limits import TenantLimits
from router.scheduling.events import Shed
from tests.support.admission import FULL, SLOTS, admission, drained, pool, sent, shed
from tests.support.fleets import TARGETS, instance, request, snapshot, worker

pytestmark = pytest.mark.holds_claims


def of_tenant(number: int | str, tenant: str, **changes: Any) -> InferenceRequest:
    """A request of that tenant."""
    return request(number, tenant=Tenant(tenant), **changes)


def test_what_an_idle_worker_can_take_goes_at_once() -> None:
    """Nothing waits without need."""
    gate = admission()
    gate.arrive(request(1, slo=TARGETS), 0.0)
    assert sent(gate.pump(pool(), 0.0)) == ["r1"]
    assert gate.queued == 0


def test_what_finds_everyone_full_waits_here_and_not_in_the_engine() -> None:
    """It goes as soon as there is room."""
    gate = admission()
    gate.arrive(request(1), 0.0)
    assert gate.pump(pool(FULL), 0.0) == []
    assert gate.queued == 1
    assert sent(gate.pump(pool(), 0.5)) == ["r1"]


def test_a_request_whose_target_nobody_can_meet_is_refused_at_once_with_reason_and_retry_after() -> None:
    """60,000 tokens wait for prefill: that takes 30 s at 2,000 a second, its target is 3 s."""
    gate = admission(depth_per_slot=10.0)
    gate.arrive(request(1, slo=TARGETS), 0.0)
    (refused,) = shed(gate.pump(pool(Load(running=1, prefill_tokens_pending=60_000)), 0.0))
    assert refused.code == "overloaded"
    assert refused.reason == "overloaded: the first token is expected after 30.5 s on w, the target is 3.0 s"
    assert refused.retry_after_s == 28.0  # when it would have met it


def test_a_request_leaves_the_queue_when_its_target_can_no_longer_be_met() -> None:
    """Never queued to die; and the queue wakes up for it by itself."""
    gate = admission()
    gate.arrive(request(1, slo=TARGETS), 0.0)
    gate.pump(pool(FULL), 0.0)
    assert gate.next_wakeup() == pytest.approx(3.0)
    (refused,) = shed(gate.pump(pool(FULL), 3.0))
    assert refused.code == "overloaded"
    assert "can no longer be met" in refused.reason
    assert refused.retry_after_s is not None
    assert gate.queued == 0


def test_the_queue_is_bounded_and_the_least_entitled_makes_room() -> None:
    """Lowest priority goes first, then who came last."""
    gate = admission(queue_limit=3)
    for number, priority in enumerate((0, 5, 0, 5)):
        gate.arrive(request(number, priority=priority), 0.0)
    refused = shed(gate.pump(pool(FULL), 0.0))
    assert [one.request_id for one in refused] == ["r2"]
    assert refused[0].reason == "overloaded: 3 requests are waiting"
    assert gate.queued == 3


def test_a_continuation_is_never_shed_for_load() -> None:
    """Its client has half an answer already."""
    gate = admission(queue_limit=1)
    gate.arrive(request("half"), 0.0, continuation=True)
    gate.arrive(request("new"), 0.0)
    assert [one.request_id for one in shed(gate.pump(pool(FULL), 0.0))] == ["rnew"]


def test_who_was_let_in_before_goes_first_is_not_charged_twice_and_is_judged_as_at_first() -> None:
    """After a conflict: it has waited its turn, and its tenant has paid; but where there is no room it is shed."""
    gate = admission(default_tenant=TenantLimits(tokens_per_minute=1500.0))
    gate.arrive(request("new", expected_output_tokens=100), 0.0)
    gate.arrive(request("again", expected_output_tokens=100), 0.0, again=True)
    assert shed(gate.pump(pool(FULL), 0.0)) == []
    assert drained(gate, 2) == ["ragain", "rnew"]
    gate.arrive(request("late", slo=TARGETS), 0.0, again=True)
    assert [one.request_id for one in shed(gate.pump(pool(FULL), 60.0))] == ["rlate"]


def test_priority_comes_before_arrival() -> None:
    """Within what waits."""
    gate = admission()
    for number, priority in enumerate((0, 1, 2)):
        gate.arrive(request(number, priority=priority), 0.0)
    assert drained(gate, 3) == ["r2", "r1", "r0"]


def test_a_tenant_with_a_burst_does_not_hold_up_the_others() -> None:
    """Ten of a, then two of b: b's first is second, not eleventh."""
    gate = admission()
    for number in range(10):
        gate.arrive(of_tenant(f"a{number}", "a"), 0.0)
    for number in range(2):
        gate.arrive(of_tenant(f"b{number}", "b"), 0.1)
    order = drained(gate, 12)
    assert len(order) == 12
    assert order.index("rb0") <= 1
    assert order.index("rb1") <= 3


def test_a_tenant_of_twice_the_weight_gets_twice_the_tokens() -> None:
    """Both want more than there is."""
    gate = admission(tenants={Tenant("a"): TenantLimits(weight=2.0)})
    for number in range(30):
        for tenant in "ab":
            gate.arrive(of_tenant(f"{tenant}{number}", tenant), 0.0)
    assert Counter(one[1] for one in drained(gate, 30)) == {"a": 20, "b": 10}


def test_a_tenant_over_its_tokens_per_minute_is_told_when_to_come_back() -> None:
    """1,100 tokens a request of 2,200 a minute: the third waits half a minute."""
    gate = admission(tenants={Tenant("t"): TenantLimits(tokens_per_minute=2200.0)})
    for number in range(3):
        gate.arrive(request(number, expected_output_tokens=100), 0.0)
    (refused,) = shed(gate.pump(pool(), 0.0))
    assert refused.code == "rate_limited"
    assert refused.retry_after_s == 30.0


def test_a_tenant_pays_for_what_was_used_and_not_for_what_was_expected() -> None:
    """A request that ended early gives the rest back, one that went on takes more; each once."""
    gate = admission(tenants={Tenant("t"): TenantLimits(tokens_per_minute=2200.0)})
    asked = [request(number, expected_output_tokens=100) for number in range(6)]
    for one in asked[:2]:
        gate.arrive(one, 0.0)
    gate.settle(asked[0], 100.0)
    gate.settle(asked[0], 100.0)
    gate.arrive(asked[2], 0.0)  # 1,000 came back: not enough
    (refused,) = shed(gate.pump(pool(), 0.0))
    assert refused.request_id == "r2"
    gate.settle(asked[1], 0.0)
    gate.arrive(asked[3], 0.0)
    assert shed(gate.pump(pool(), 0.0)) == []
    gate.settle(asked[3], 10_000_000.0)
    gate.arrive(asked[4], 0.0)
    (refused,) = shed(gate.pump(pool(), 0.0))
    assert refused.retry_after_s is not None
    assert 3600.0 <= refused.retry_after_s <= 3660.0


def test_a_deadline_that_passed_in_the_queue_says_why_nobody_took_the_request() -> None:
    """All cordoned, or all full: a 504 that tells neither leaves its reader guessing."""
    for fleet, why in (
        (snapshot(worker("w", instance(slots=SLOTS), cordoned=True)), "w@q8_0: cordoned by the operator"),
        (pool(FULL), "w@q8_0: ruled out for this request: tried before, or full"),
    ):
        gate = admission()
        gate.arrive(request(1, deadline_at=3.0), 0.0)
        assert gate.pump(fleet, 0.0) == []
        (refusal,) = shed(gate.pump(fleet, 3.0))
        assert refusal.code == "deadline"
        assert refusal.reason == f"its deadline passed after 3.0 s in the queue: {why}"
        assert refusal.no_candidate is not None


def test_a_client_that_left_is_forgotten() -> None:
    """No verdict, no place in the queue."""
    gate = admission()
    asked = request(1)
    gate.arrive(asked, 0.0)
    gate.cancel(asked.request_id)
    assert gate.queued == 0
    assert gate.pump(pool(), 0.0) == []


@pytest.mark.parametrize("patience", [{"deadline_at": 30.0}, {"slo": replace(TARGETS, ttft_s=30.0)}, {}])
def test_who_would_wait_in_vain_is_refused_while_there_is_time(patience: dict[str, Any]) -> None:
    """Of a queue that goes a request a second, nobody waits for what lies far beyond its deadline, target or patience;
    whoever is refused is told how long the queue is, and hardly anyone dies in it.
    """
    gate = admission(longest_wait_s=30.0)
    for number in range(300):
        gate.arrive(request(number, arrived_at=0.0, **patience), 0.0)
    served: list[str] = []
    refused: list[tuple[float, Shed]] = []
    for second in range(40):
        free = pool(replace(FULL, running=SLOTS, waiting=0, observed_at=float(second)))
        decisions = gate.pump(free, float(second))
        served += sent(decisions)
        refused += [(float(second), one) for one in shed(decisions)]
    early = [one for second, one in refused if second < 5.0]
    assert len(served) >= 15
    assert len(early) > 200
    assert all(one.code == "overloaded" and one.retry_after_s and one.retry_after_s > 50.0 for one in early)
    assert len([second for second, _ in refused if second >= 29.0]) <= 35


@pytest.mark.parametrize("first_answer_s", [4.0, 6.0, 9.0])
def test_a_burst_is_not_judged_by_the_first_answer_alone(first_answer_s: float) -> None:
    """More requests than slots on a slow machine: for seconds nobody leaves the queue, then one, then the others.
    Nobody is refused, and everybody is served, though one departure in so many seconds looks like a standing queue.
    """
    gate = admission(longest_wait_s=60.0)
    for number in range(24):
        gate.arrive(request(number, arrived_at=0.0), 0.0)
    busy = pool(replace(FULL, running=SLOTS, waiting=SLOTS))
    decisions = gate.pump(busy, 0.0)
    now = 0.0
    while gate.queued and now < 60.0:
        now += 0.25
        room = now >= first_answer_s and (now < first_answer_s + 0.25 or now >= first_answer_s + 2.0)
        load = replace(FULL, running=SLOTS, waiting=0 if room else SLOTS, observed_at=now)
        decisions += gate.pump(pool(load), now)
    assert shed(decisions) == []
    assert len(sent(decisions)) == 24


def test_who_is_held_back_for_those_who_run_is_not_refused_for_the_queue() -> None:
    """There is room for it, so the queue of those who may only go to a full worker is not before it: it waits until
    those who run can spare it, or its own target has passed.
    """
    gate = admission(hold_violations=-1.0, longest_wait_s=600.0)  # nothing with a target is let in beside others
    for number in range(100):
        gate.arrive(request(number, model=ModelRef(name="m", pinned="q4_k_m")), 0.0)
    gate.arrive(request("held", slo=replace(TARGETS, ttft_s=30.0)), 0.0)
    idle = worker("idle", instance(slots=SLOTS))
    decisions: list[Decision] = []
    for second in range(20):
        slow = worker("slow", instance("q4_k_m", slots=SLOTS), load=replace(FULL, waiting=0, observed_at=float(second)))
        decisions += gate.pump(snapshot(slow, idle, at=float(second)), float(second))
    assert "held" not in {one.request_id.removeprefix("r") for one in decisions}
    assert len(sent(decisions)) >= 15


def test_everyone_who_came_gets_exactly_one_verdict() -> None:
    """However full it is."""
    gate = admission(queue_limit=20)
    decisions: list[Decision] = []
    for number in range(60):
        gate.arrive(request(number, slo=TARGETS, arrived_at=number / 10), number / 10)
        load = FULL if number % 3 else Load(observed_at=number / 10)
        decisions += gate.pump(pool(load), number / 10)
    decisions += gate.pump(pool(FULL), 1000.0)
    assert sorted(one.request_id for one in decisions) == sorted(f"r{number}" for number in range(60))
    assert gate.queued == 0


def test_overload_never_collapses_throughput() -> None:
    """At three times the load that holds, as many requests still keep their targets; without admission hardly any."""
    case = Case(fleet="deploy/fleets/home_lab.toml", traffic="azure-like", policy="cost", seed=5, requests=400)
    holds = run_at(case, 2.0)
    flooded = run_at(case, 6.0)
    open_gate = run_at(replace(case, admission=False), 6.0)
    assert holds.within > 0.9
    assert flooded.goodput > holds.goodput
    assert flooded.shed["overloaded"] > 50
    assert open_gate.goodput < 0.5 * flooded.goodput


def test_tenants_fare_alike_under_overload() -> None:
    """Jain's index over the tenants' shares inside their targets."""
    case = Case(fleet="deploy/fleets/home_lab.toml", traffic="azure-like", policy="cost", seed=5, requests=400)
    assert run_at(case, 6.0).fairness > 0.95


def test_what_has_left_the_queue_holds_no_prompt() -> None:
    """Refused, served or gone: 240 prompts of 8 MB that were refused left 1.4 GB while another request waited."""
    gate = admission()
    gate.arrive(request("keeps"), 0.0)
    held: list[weakref.ref[_Prompt]] = []
    for number in range(5):
        prompt = _Prompt("x" * 1000)
        held.append(weakref.ref(prompt))
        gate.arrive(request(number, messages=(prompt,), slo=TARGETS), 0.0)
        del prompt
    gate.pump(pool(FULL), 0.0)
    gate.cancel(request(0).request_id)
    assert len(shed(gate.pump(pool(FULL), 3.5))) == 4
    assert gate.queued == 1
    assert [one() for one in held] == [None] * 5


class _Prompt(str):
    """Can be watched."""
