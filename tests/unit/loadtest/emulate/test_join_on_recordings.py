"""Rule: on GPUs that were recorded the join benchmark finds what was recorded, within its time, whatever the dice."""

import asyncio

import pytest

from loadtest.emulate.joined import errors, join
from loadtest.emulate.recording import read_recording, recordings
from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.worker import SPEED
from protos.contract.validation import check_instance
from tests.unit.protos.contract.codec.strategies import over_the_wire
from workers.benchmark.plan import PLANS, Effort

MEDIAN, WORST, PREFILL = 0.10, 0.25, 0.15
FLOPS = 989e12
"""Dense 16-bit arithmetic of an H100 SXM: no prompt is prefilled faster than its weights are multiplied."""


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", recordings())
async def test_the_curves_are_those_that_were_recorded(name: str, seed: int) -> None:
    """Decode at 1 to 64 sequences, each with the context of the table, and prompts chunk by chunk."""
    recording = read_recording(name)
    speed, seconds = await asyncio.wait_for(join(recording, seed=seed), 60)
    found = errors(recording, speed)
    assert found.decode_median < MEDIAN, found
    assert found.decode_worst < WORST, found
    assert found.prefill_worst < PREFILL, found
    assert seconds < 1.5 * PLANS[Effort.FULL].budget_s
    assert 0 < speed.prefill_tokens_per_s * 2 * recording.parameters < FLOPS
    assert speed.fit_error < 0.05
    assert speed.depends_on["driver"] == "580.159.04"
    assert speed.depends_on["engine_version"] == recording.engine_version
    message = over_the_wire(SPEED.encode(speed))
    check_instance(pb.ModelInstance(speed=message))
    assert SPEED.decode(message).decode_curve == speed.decode_curve


@pytest.mark.parametrize("name", recordings())
async def test_three_seconds_are_enough_for_the_whole_curve(name: str) -> None:
    """A 70B makes 12 steps of 64 sequences a second: the few that are seen are spread over the batches."""
    recording = read_recording(name)
    speed, seconds = await asyncio.wait_for(join(recording, effort=Effort.QUICK), 60)
    found = errors(recording, speed)
    assert found.decode_median < MEDIAN, found
    assert found.decode_worst < WORST, found
    assert found.prefill_worst < 0.2, found
    assert speed.decode_curve[-1].at == 64
    assert seconds < 1.5 * PLANS[Effort.QUICK].budget_s


@pytest.mark.parametrize("name", ["h100-llama-8b-q4_k_m", "h100-vllm-8b-awq", "h100-vllm-135m-awq"])
async def test_the_old_way_on_the_same_recording_missed_by_far(name: str) -> None:
    """What was told that day: 86 million prompt tokens a second, or none; else none of this would hold anybody."""
    recording = read_recording(name)
    for base_s, per_sequence_s, per_context_token_s, rate, _ in recording.joins:
        context = recording.context_per_sequence
        told = [base_s + batch * (per_sequence_s + per_context_token_s * context) for batch, _ in recording.decode]
        worst = max(abs(one / seconds - 1.0) for one, (_, seconds) in zip(told, recording.decode, strict=True))
        assert worst > 2 * WORST or not 0 < rate * 2 * recording.parameters < FLOPS


async def test_fewer_slots_are_measured_as_far_as_they_go() -> None:
    speed, _ = await asyncio.wait_for(join(read_recording("h100-llama-8b-q8_0"), slots=12), 60)
    assert speed.decode_curve[-1].at == 12
    alone, _ = await asyncio.wait_for(join(read_recording("h100-llama-8b-q8_0"), slots=1), 60)
    assert [one.at for one in alone.decode_curve] == [1]
    assert alone.step_s(1, 268) == pytest.approx(0.004536, rel=0.05)
