"""Rule: what a machine does is believed over what its profile says, within 50 requests, on the virtual clock."""

import random
from dataclasses import replace

import pytest

from protos.contract.worker import Speed
from router.scheduling.placement.candidates import InstanceKey
from router.scheduling.placement.factory import build_placer
from tests.support.curves import H100_70B, curve
from tests.support.fleets import SPEED, faster, instance, request, snapshot, worker
from tests.support.virtual_worker import VirtualWorker

CURVED = Speed(
    base_s=0.0235, per_sequence_s=0.001, per_context_token_s=1e-7, prefill_tokens_per_s=1222.0, prefill_base_s=0.03,
    decode_curve=H100_70B, prefill_curve=curve((128, 0.136), (512, 0.42)),
)  # fmt: skip
REQUESTS = 50
WITHIN = 0.10


def run(pool: VirtualWorker, requests: int, together: int, seed: int = 3) -> None:
    """Serve ``requests`` requests of mixed sizes, ``together`` at a time."""
    rng = random.Random(seed)
    goal = pool.finished + requests
    sent = pool.finished + pool.running
    while pool.finished < goal:
        while pool.running < together and sent < goal:
            pool.send(
                request(f"{seed}-{sent}", prompt_tokens_estimate=rng.randrange(200, 3000)), rng.randrange(20, 200)
            )
            sent += 1
        pool.step()


def believed(pool: VirtualWorker) -> Speed:
    """What the placer now thinks of the one worker."""
    return pool.placer.speeds.speed(InstanceKey(pool.fleet.workers[0].worker_id, "m", "q8_0"))


def error(pool: VirtualWorker, batch: int, context: int) -> float:
    """Relative error of the price of one decode step."""
    true = pool.true.step_s(batch, context)
    return abs(believed(pool).step_s(batch, context) / true - 1.0)


def prefill_error(pool: VirtualWorker) -> float:
    """Relative error of the price of prefilling 2,000 tokens."""
    return abs(pool.true.prefill_tokens_per_s / believed(pool).prefill_tokens_per_s - 1.0)


def pool_of(profile: Speed, true: Speed, *, reports_steps: bool = True) -> VirtualWorker:
    """One worker that says ``profile`` and runs at ``true``."""
    placer = build_placer("cost", rng=random.Random(0))
    fleet = snapshot(worker("w", instance(speed=profile, kv_capacity_tokens=0)))
    return VirtualWorker(placer, fleet, true, reports_steps=reports_steps)


@pytest.mark.parametrize("together", [1, 4, 8])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_worker_that_joined_with_a_profile_twice_wrong_is_priced_right(factor: float, together: int) -> None:
    """The first 50 requests correct the profile, whichever way it was wrong."""
    pool = pool_of(faster(SPEED, factor), SPEED)
    assert error_at_start(factor) > 0.45
    run(pool, REQUESTS, together)
    assert error(pool, together, 1500 * together) < WITHIN
    assert prefill_error(pool) < WITHIN


def error_at_start(factor: float) -> float:
    """How wrong the profile is, so that the test cannot pass by doing nothing."""
    return abs(1.0 / factor - 1.0)


@pytest.mark.parametrize("together", [1, 4, 8])
@pytest.mark.parametrize("slowdown", [3.0, 1 / 3])
def test_a_worker_that_changes_speed_mid_run_is_priced_right(slowdown: float, together: int) -> None:
    """After long quiet evidence of one speed, 50 requests at another are enough."""
    pool = pool_of(SPEED, SPEED)
    run(pool, 200, together)
    assert error(pool, together, 1500 * together) < WITHIN
    pool.true = faster(SPEED, 1.0 / slowdown)
    run(pool, REQUESTS, together, seed=4)
    assert error(pool, together, 1500 * together) < WITHIN
    assert prefill_error(pool) < WITHIN


@pytest.mark.parametrize("together", [1, 4, 12])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_worker_priced_by_curves_that_are_twice_wrong_is_priced_right(factor: float, together: int) -> None:
    """The curve is corrected as a line is, and keeps its bends."""
    pool = pool_of(faster(CURVED, factor), CURVED)
    run(pool, REQUESTS, together)
    assert error(pool, together, 1500 * together) < WITHIN
    assert abs(believed(pool).prefill_s(2000) / CURVED.prefill_s(2000) - 1.0) < 2 * WITHIN
    bend = believed(pool).step_s(8, 0) / believed(pool).step_s(16, 0)
    assert bend == pytest.approx(CURVED.step_s(8, 0) / CURVED.step_s(16, 0), abs=0.1)


@pytest.mark.parametrize("together", [1, 4])
def test_a_worker_that_reports_no_steps_is_learnt_from_its_outcomes(together: int) -> None:
    """A server that somebody else runs tells only when tokens came."""
    pool = pool_of(faster(SPEED, 2.0), SPEED, reports_steps=False)
    run(pool, REQUESTS, together)
    assert error(pool, together, 1500 * together) < 2 * WITHIN


def test_a_price_shifts_for_batches_never_seen_too() -> None:
    """All steps were at batch 1; a machine half as fast as promised is not believed fast at batch 8."""
    pool = pool_of(faster(SPEED, 2.0), SPEED)
    run(pool, REQUESTS, 1)
    assert error(pool, 8, 12_000) < 0.25


def test_one_hiccup_does_not_move_the_price() -> None:
    """A single step a hundred times too long is set aside."""
    pool = pool_of(SPEED, SPEED)
    run(pool, 100, 4)
    before = believed(pool).step_s(4, 6000)
    pool.true = faster(SPEED, 0.01)
    run_one_step(pool)
    assert believed(pool).step_s(4, 6000) == pytest.approx(before, rel=0.01)


def run_one_step(pool: VirtualWorker) -> None:
    """One step with one request, reported."""
    pool.send(request("hiccup"), 5)
    pool.step()


def test_nonsense_reports_change_nothing() -> None:
    """Negative, zero and infinite times teach nothing."""
    pool = pool_of(SPEED, SPEED)
    run(pool, 20, 2)
    before = believed(pool)
    view = pool.fleet.workers[0]
    for number, nonsense in enumerate((-1.0, 0.0, float("inf"), float("nan"))):
        load = replace(view.load, last_step_s=nonsense, step_sequence=10**6 + number, last_step_batch=2)
        pool.placer.observed(snapshot(replace(view, load=load)), view.worker_id, pool.now)
    assert believed(pool) == before
