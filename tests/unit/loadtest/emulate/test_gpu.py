"""Rule: the emulated GPU does what was recorded of it, traffic included, which its curves do not show."""

import random
from statistics import median

import pytest

from loadtest.emulate.gpu import Gpu
from loadtest.emulate.recording import lone_prefills, read_recording, recordings, unsettled

LLAMA = [name for name in recordings() if "llama" in name]


@pytest.mark.parametrize("name", recordings())
def test_settled_steps_are_the_recorded_table(name: str) -> None:
    recording = read_recording(name)
    gpu = Gpu(recording, random.Random(0))
    for batch, seconds in recording.decode:
        assert gpu.decode_s(batch, batch * recording.context_per_sequence) == pytest.approx(seconds)


@pytest.mark.parametrize("name", LLAMA)
def test_the_first_steps_at_a_new_shape_are_those_that_capture_it(name: str) -> None:
    """Then they settle; another batch begins anew."""
    recording = read_recording(name)
    gpu = Gpu(recording, random.Random(0))
    for batch in (4, 8, 4):
        steps = [gpu.step_s(range(batch), 268 * batch, 0) for _ in range(40)]
        settled = gpu.decode_s(batch, 268 * batch)
        assert max(steps[:2]) > 1.15 * settled
        assert median(steps[2:]) == pytest.approx(settled, rel=0.05)


def test_a_batch_with_gaps_is_computed_run_by_run() -> None:
    """As recorded: three sequences of which one stood apart took 10.3 ms all along, and 6.5 together."""
    recording = read_recording("h100-llama-8b-q4_k_m")
    gpu = Gpu(recording, random.Random(0))
    apart = median(gpu.step_s((0, 1, 5), 100, 0) for _ in range(50))
    together = median(gpu.step_s((0, 1, 2), 100, 0) for _ in range(50))
    recorded = [step for batch, _, prompt, _, step in recording.steps if batch == 3 and not prompt]
    assert apart == pytest.approx(median(one for one in recorded if one > 0.009), rel=0.2)
    assert together == pytest.approx(min(recorded), rel=0.2)
    assert Gpu(recording, random.Random(0), scattered=False).step_s((0, 1, 5), 100, 0) < 1.6 * together


@pytest.mark.parametrize(
    ("batch", "name"), [(15, "h100-llama-8b-q4_k_m"), (12, "h100-llama-8b-q8_0"), (9, "h100-llama-8b-fp16")]
)
def test_batches_between_those_of_the_table_are_as_recorded_too(batch: int, name: str) -> None:
    """The quickest step of a batch is one that stood together: quantized weights change kernels after eight rows."""
    recording = read_recording(name)
    quickest = min(step for number, _, prompt, _, step in recording.steps if number == batch and not prompt)
    assert Gpu(recording, random.Random(0)).decode_s(batch, 40 * batch) == pytest.approx(quickest, rel=0.1)


def test_what_vllm_told_of_its_steps_is_not_how_long_they_took() -> None:
    gpu = Gpu(read_recording("h100-vllm-8b-awq"), random.Random(0))
    told = [gpu.told_s(4, gpu.decode_s(4, 1000)) for _ in range(100)]
    assert len(set(told)) > 10
    assert median(told) < 0.9 * gpu.decode_s(4, 1000)


def test_prompts_that_nobody_decoded_beside_are_found_in_the_steps() -> None:
    """A prompt of several steps is one; what its first steps leave to the next belongs to it."""
    found = lone_prefills(read_recording("h100-llama-8b-q4_k_m"))
    assert (128, 313, pytest.approx(0.0592, rel=0.01)) in found
    assert all(0.001 < seconds / tokens * 30 < 1 for _, tokens, seconds in found)


def test_how_steps_lie_around_the_settled_one_is_read_from_runs() -> None:
    lies = unsettled(read_recording("h100-llama-8b-q4_k_m"))
    assert all(1.0 <= one < 2.5 for one in lies.first)
    assert median(lies.later) == pytest.approx(1.0, abs=0.02)
