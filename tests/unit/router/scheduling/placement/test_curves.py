"""Rule: a decision prices a worker by its measured curve at the batch it has, and its record says and replays that."""

import random

import msgspec
import pytest

from protos.contract.worker import Load, Speed
from router.domain.placement import Placed
from router.domain.snapshot import FleetSnapshot
from router.scheduling.explain.record import DecisionRecord
from router.scheduling.explain.replay import Change, differences, replay
from router.scheduling.placement.factory import build_placer
from tests.support.curves import H100_70B, curve
from tests.support.fleets import SPEED, TARGETS, instance, request, snapshot, worker

PREFILL = curve((128, 0.136), (512, 0.42), (2048, 1.675))
CURVED = Speed(
    base_s=0.0235, per_sequence_s=0.001, per_context_token_s=1e-7, prefill_tokens_per_s=1222.0, prefill_base_s=0.03,
    measured=True, decode_curve=H100_70B, prefill_curve=PREFILL,
)  # fmt: skip
PROMPT, OUTPUT = 300, 100


def fleet(running: int) -> FleetSnapshot:
    load = Load(running=running, context_tokens=200 * running, expected_remaining_tokens=50 * running)
    return snapshot(
        worker("bent", instance(speed=CURVED, slots=64, kv_capacity_tokens=0), load=load),
        worker("straight", instance(speed=SPEED, slots=64, kv_capacity_tokens=0)),
    )


def record(running: int, *, replicas: int = 1, **asked: object) -> DecisionRecord:
    placer = build_placer("cost", rng=random.Random(0), replicas=replicas)
    wanted = request(1, **{"expected_output_tokens": OUTPUT, "prompt_tokens_estimate": PROMPT, "slo": TARGETS, **asked})
    placed = placer.place(wanted, fleet(running), 0.0)
    assert isinstance(placed, Placed)
    placer.dispatched(wanted, placed, 0.0)
    (kept,) = placer.records.find(wanted.request_id)
    return msgspec.json.decode(msgspec.json.encode(kept), type=DecisionRecord)


def of_the_bent(kept: DecisionRecord) -> dict[str, float | None]:
    return next(one.terms for one in kept.candidates if one.worker == "bent")


@pytest.mark.parametrize("running", [0, 1, 3, 7, 8, 12, 15, 16, 40, 63])
def test_a_step_is_priced_by_the_curve_at_the_batch_that_is_there(running: int) -> None:
    tpot = of_the_bent(record(running))["tpot"]
    context = 200 * running + PROMPT + OUTPUT / 2
    assert tpot == pytest.approx(CURVED.step_s(running + 1, context), rel=1e-9)


def test_a_batch_at_which_the_kernel_changes_is_made_cheaper_by_one_more() -> None:
    """58 ms for 8 and 46 for 16: those who run there get faster, which the harm counts as a gain."""
    assert (of_the_bent(record(8, slo=None))["harm"] or 0.0) < of_the_bent(record(7, slo=None))["harm"] - 1.0  # type: ignore[operator]


@pytest.mark.parametrize("prompt", [1, 20, 127, 128, 300, 512, 1000, 2048, 9000])
def test_a_prompt_is_priced_by_the_prefill_curve_at_its_length(prompt: int) -> None:
    kept = record(0, prompt_tokens_estimate=prompt)
    assert of_the_bent(kept)["prefill"] == pytest.approx(CURVED.prefill_s(prompt), rel=1e-9)


@pytest.mark.parametrize("replicas", [1, 4])
def test_a_record_has_the_curves_and_replays_exactly(replicas: int) -> None:
    kept = record(9, replicas=replicas)
    bent, straight = kept.candidates
    assert bent.decode_curve == [(one.at, one.seconds) for one in H100_70B]
    assert bent.prefill_curve == [(0, 0.03), *((one.at, one.seconds) for one in PREFILL)]
    assert (straight.decode_curve, straight.prefill_curve) == ([], [])
    again = replay(kept)
    assert again.same
    assert differences(kept, again) == []


@pytest.mark.parametrize("running", [0, 5, 8, 20])
def test_what_another_load_would_have_cost_is_computed_by_the_curve(running: int) -> None:
    """Not by the line that held at the recorded batch."""
    then = replay(record(2, slo=None), [Change("bent", "in_engine", float(running))])
    tpot = then.scores.terms["tpot"][0]
    context = 200 * 2 + PROMPT + OUTPUT / 2
    assert tpot == pytest.approx(CURVED.step_s(running + 1, context), rel=1e-9)


def test_a_policy_that_knows_no_time_predicts_by_the_curve_too() -> None:
    placer = build_placer("least_request", rng=random.Random(0))
    placed = placer.place(request(1, prompt_tokens_estimate=PROMPT, expected_output_tokens=OUTPUT), fleet(0), 0.0)
    assert isinstance(placed, Placed)
    assert placed.prediction.tpot_alone_s == pytest.approx(
        (CURVED if placed.worker_id == "bent" else SPEED).step_s(1, PROMPT + OUTPUT / 2)
    )
