"""Which models a worker may serve, and what is believed of its speed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware, InstanceState, Speed
from router.capacity.speed import predict_speed
from router.fleet.model_rules import BELIEVED_FACTOR, ModelRules, as_believed, believable_factor
from router.http.admin.fleet_view import fleet_body
from tests.support.fleets import instance, request
from tests.support.scripted_worker import PipelineRig

M4_MAX = Hardware(kind="apple", name="Apple M4 Max", memory_bytes=128 * 2**30, cores=40)
LLAMA = instance(
    "q8_0", model="llama-3.1-8b", weights_bytes=8_500_000_000, parameters=8_030_000_000,
    active_parameters=8_030_000_000, layers=32, format="gguf", bits_per_weight=8.5, slots=16,
)  # fmt: skip
DOUBTED = ModelRules(believed=False)


@pytest.mark.parametrize(
    ("rules", "model", "says"),
    [
        (ModelRules(), "anything", ""),
        (ModelRules(allowed=("llama-*", "qwen3-8b")), "llama-3.1-8b", ""),
        (ModelRules(allowed=("llama-*", "qwen3-8b")), "qwen3-8b", ""),
        (ModelRules(allowed=("llama-*", "qwen3-8b")), "qwen3-8b-evil", "its token names llama-*, qwen3-8b"),
        (ModelRules(allowed=("llama-*",)), "Llama-3", "not let in to serve Llama-3"),
        (ModelRules(refused=("m",)), "m", "taken from this machine"),
        (ModelRules(allowed=("*",), refused=("m",)), "m", "taken from this machine"),
        (ModelRules(refused=("m",)), "n", ""),
    ],
)
def test_what_it_may_not_serve_it_has_as_failed_with_the_reason(rules: ModelRules, model: str, says: str) -> None:
    """Names are compared letter by letter, patterns as shells do."""
    believed = as_believed(replace(LLAMA, model=model), M4_MAX, rules)
    if says:
        assert believed.state is InstanceState.FAILED
        assert says in believed.error
    else:
        assert believed == replace(LLAMA, model=model)


@given(factor=st.floats(1e-3, 1e4))
def test_a_speed_just_believable_stays_and_one_beyond_is_slowed_to_that(factor: float) -> None:
    """Whatever is claimed, no more than the bound is counted on, in any of its figures."""
    predicted = predict_speed(M4_MAX, replace(LLAMA, speed=None))
    claimed = Speed(
        base_s=predicted.step_s(1, 0.0) / factor,
        per_sequence_s=0.0,
        per_context_token_s=predicted.per_context_token_s / factor,
        prefill_tokens_per_s=predicted.prefill_tokens_per_s * factor,
        measured=True,
    )
    believed = as_believed(replace(LLAMA, speed=claimed), M4_MAX, DOUBTED)
    assert believed.speed is not None
    assert believable_factor(believed.speed, predicted) <= 1.0 + 1e-9
    if believable_factor(claimed, predicted) <= 1.0:
        assert believed.speed == claimed
    else:
        assert not believed.speed.measured
        assert "until measured" in believed.error
        assert believed.speed.prefill_tokens_per_s < claimed.prefill_tokens_per_s
        assert believed.state is InstanceState.READY


def test_a_worker_of_this_machine_is_believed() -> None:
    """On an open pool whoever can join can do worse."""
    fast = Speed(base_s=1e-5, per_sequence_s=1e-6, per_context_token_s=1e-12, prefill_tokens_per_s=1e8, measured=True)
    assert as_believed(replace(LLAMA, speed=fast), M4_MAX, ModelRules()).speed == fast
    slowed = as_believed(replace(LLAMA, speed=fast), M4_MAX, DOUBTED).speed
    assert slowed is not None
    predicted = predict_speed(M4_MAX, replace(LLAMA, speed=None))
    assert slowed.step_s(1, 0.0) >= 0.999 * predicted.step_s(1, 0.0) / BELIEVED_FACTOR


async def test_an_operator_takes_a_model_from_a_machine_and_the_fleet_says_so() -> None:
    """At once: the next prompt for it goes elsewhere; what the machine announces later changes nothing."""
    rig = PipelineRig("a", "b")
    member = rig.membership.member(WorkerId("a"))
    assert member is not None
    rig.membership.set_rules(member, ModelRules(refused=("m",)))
    (shown,) = (one for one in fleet_body(rig.membership.snapshot())["workers"] if one["worker_id"] == "a")
    assert {(one["state"], one["error"]) for one in shown["models"]} == {
        ("failed", "m was taken from this machine by an operator")
    }
    rig.membership.set_model(member, next(iter(member.announced.values())))
    for number in range(4):
        asking = rig.ask(request(number))
        worker, job = await rig.job()
        assert worker is rig.workers["b"]
        worker.accept(job)
        await (await asking).aclose()
    rig.membership.set_rules(member, ModelRules())
    assert member.models == member.announced
