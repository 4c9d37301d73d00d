"""Rule: priced by the curves that were found, a recorded card serves what it serves at its true price."""

import asyncio
import random
from dataclasses import replace

import pytest

from loadtest.bench.machines.priced_fleet import CARD, COMPANIES, fleet_of, goodputs, priced, prices_of
from loadtest.emulate.gpu import Gpu
from loadtest.emulate.recording import read_recording
from protos.contract.worker import Load
from router.scheduling.estimators.speed_model import SpeedModel
from router.scheduling.placement.candidates import InstanceKey
from tests.support.fleets import SPEED, faster, instance, worker


@pytest.mark.holds_claims  # the last requests end with the run, unheard by the router
@pytest.mark.parametrize("company", COMPANIES, ids=lambda one: one.recording)
def test_a_fleet_priced_by_curves_loses_nothing(company: object) -> None:
    """The same requests, the same machines; only what the card says of itself differs."""
    found = goodputs(company, requests=150, seeds=(1, 2))  # type: ignore[arg-type]
    assert found["true"] > 0
    assert found["curves"] >= 0.98 * found["true"], found


def test_prices_differ_on_the_card_alone() -> None:
    """And the four are four."""
    company = COMPANIES[1]
    recording = read_recording(company.recording)
    fleet = fleet_of(company, recording)
    prices = asyncio.run(prices_of(recording, fleet))
    assert len({speed.step_s(16, 0.0) for speed in prices.values()}) == 4
    assert prices["true"].step_s(16, 0.0) == pytest.approx(prices["curves"].step_s(16, 0.0), rel=0.05)
    changed = priced(fleet, prices["line"])
    for before, after in zip(fleet.nodes, changed.nodes, strict=True):
        assert (before == after) == (before.node != CARD)


@pytest.mark.parametrize("wrong_by", [0.5, 1.0, 1.6])
def test_steps_of_the_card_teach_the_speed_model_its_curve(wrong_by: float) -> None:
    """Steps as they come, unsettled ones and traffic with gaps among them, from a prior that is wrong altogether."""
    recording = read_recording("h100-llama-70b-q4_k_m")
    company = COMPANIES[1]
    true = asyncio.run(prices_of(recording, fleet_of(company, recording)))["true"]
    gpu, rng = Gpu(recording, random.Random(1)), random.Random(2)
    model = SpeedModel(lambda _hardware, _instance: SPEED)
    held = instance(speed=faster(true, wrong_by))
    view = worker("h100", held)
    key = InstanceKey(view.worker_id, held.model, held.quantization)
    model.ensure(key, view, held)
    sequence = 0
    for _ in range(60):
        batch = rng.choice([1, 2, 4, 8, 16, 32])
        for _ in range(6):
            sequence += 1
            step_s = gpu.step_s(range(batch), 300.0 * batch, 0)
            load = Load(
                running=batch,
                context_tokens=300 * batch,
                step_sequence=sequence,
                last_step_s=step_s,
                last_step_batch=batch,
            )
            model.observed(replace(view, load=load))
    for batch in (1, 4, 8, 16, 32):
        believed = model.speed(key).step_s(batch, 300 * batch)
        assert believed == pytest.approx(gpu.decode_s(batch, 300 * batch), rel=0.2)
    assert model.speed(key).step_s(8, 0) > 1.15 * model.speed(key).step_s(16, 0)
