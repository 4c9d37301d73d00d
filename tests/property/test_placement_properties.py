"""Properties of placement by cost, over fleets, loads and requests of every kind.

``tests/contract/policies`` has those of every policy.
"""

from dataclasses import replace
from typing import Any

from hypothesis import assume, given, seed, settings
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from protos.contract.worker import Load, Speed
from router.domain.placement import Placed
from router.domain.request import InferenceRequest, ModelRef
from router.domain.snapshot import FleetSnapshot, Inflight
from tests.support.curves import H100_70B
from tests.support.fleets import instance, snapshot, worker
from tests.support.placements import (
    DETERMINISTIC,
    NOW,
    claims,
    cost_of,
    fleets,
    loads,
    placer,
    recorded,
    requests,
    speeds,
)


def test_the_fleets_drawn_here_are_worth_drawing() -> None:
    """Placements and refusals both come up often, else the properties would say nothing.

    Hypothesis repeats itself within a run: the share of one is anything from a quarter to seven tenths. That of eight,
    each from a start of its own, is the fleets'.
    """
    outcomes: list[bool] = []
    for start in range(8):

        @seed(start)
        @settings(DETERMINISTIC, max_examples=25, derandomize=False, database=None)
        @given(fleet=fleets(), asked=requests())
        def place(fleet: FleetSnapshot, asked: InferenceRequest) -> None:
            outcomes.append(isinstance(placer().place(asked, fleet, NOW), Placed))

        place()
    assert 0.25 < sum(outcomes) / len(outcomes) < 0.9


@DETERMINISTIC
@given(fleet=fleets(), asked=requests())
def test_who_is_left_out_was_excluded_and_nobody_is_both(fleet: FleetSnapshot, asked: InferenceRequest) -> None:
    """Candidates and exclusions of the record partition the workers that hold the model."""
    record = recorded(placer(), fleet, asked)
    assume(record is not None)
    assert record is not None
    taken = {(one.worker, one.quantization) for one in record.candidates}
    out = {(one["worker"], one["quantization"]) for one in record.exclusions}
    holding = {
        (str(view.worker_id), held.quantization) for view in fleet.workers for held in view.models if held.model == "m"
    }
    assert not taken & out
    assert holding <= taken | out


@DETERMINISTIC
@given(fleet=fleets(), asked=requests(), twin_of=st.integers(0, 5))
def test_adding_an_idle_identical_worker_never_raises_the_predicted_cost(
    fleet: FleetSnapshot, asked: InferenceRequest, twin_of: int
) -> None:
    """A pool with one more machine is never worse for anyone."""
    before = recorded(placer(), fleet, asked)
    assume(before is not None)
    assert before is not None
    model = fleet.workers[twin_of % len(fleet.workers)]
    twin = replace(
        model,
        profile=replace(model.profile, worker_id=WorkerId("twin"), node="twin"),
        load=Load(observed_at=NOW),
        inflight=Inflight(),
    )
    after = recorded(placer(), replace(fleet, workers=(*fleet.workers, twin)), asked)
    assert after is not None
    assert cost_of(after) <= cost_of(before) * (1 + 1e-12)


ready = st.builds(lambda speed, load, claim, rtt: (speed, load, claim, rtt), speeds, loads, claims, st.floats(0.0, 0.2))
factors = st.floats(1.0, 50.0)


@settings(DETERMINISTIC, max_examples=300)
@given(
    at=ready, asked=requests(), factor=st.tuples(factors, factors, factors, factors, factors),
    weights=st.sampled_from([{}, {"lambda_quality": 1.0}, {"replicas": 4}, {"lambda_slo": 0.0}]),
)  # fmt: skip
def test_a_faster_worker_all_else_equal_is_never_costlier(
    at: tuple[Speed, Load, Inflight, float],
    asked: InferenceRequest,
    factor: tuple[float, float, float, float, float],
    weights: dict[str, Any],
) -> None:
    """Faster in any of its parameters, by any factor, under any load."""
    speed, load, claim, rtt_s = at
    # Where one more in the batch makes everybody faster, the slower machine gains more by it: no curve falls here.
    speed = replace(speed, decode_curve=() if speed.decode_curve == H100_70B else speed.decode_curve)
    faster = Speed(
        base_s=speed.base_s / factor[0],
        per_sequence_s=speed.per_sequence_s / factor[1],
        per_context_token_s=speed.per_context_token_s / factor[2],
        prefill_tokens_per_s=speed.prefill_tokens_per_s * factor[3],
        prefill_base_s=speed.prefill_base_s / factor[4],
        decode_curve=tuple(replace(one, seconds=one.seconds / factor[0]) for one in speed.decode_curve),
        prefill_curve=tuple(
            replace(one, seconds=one.seconds / max(factor[3], factor[4])) for one in speed.prefill_curve
        ),
    )
    plain = replace(
        asked, model=ModelRef(name="m"), required_labels=(), never_quantized=False, continues=False,
        sampling=replace(asked.sampling, logprobs=False, max_tokens=16),
    )  # fmt: skip
    fleet = snapshot(
        *(
            worker(
                name,
                instance(speed=one, context_tokens=65_536, kv_capacity_tokens=0),
                load=load,
                inflight=claim,
                rtt_s=rtt_s,
            )
            for name, one in (("slow", speed), ("fast", faster))
        ),
        at=NOW,
    )
    record = recorded(placer(**weights), fleet, plain)
    assert record is not None
    costs = {one.worker: one.cost for one in record.candidates}
    assert costs["slow"] is not None
    assert costs["fast"] is not None
    assert costs["fast"] <= costs["slow"] * (1 + 1e-9) + 1e-12
