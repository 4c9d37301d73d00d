"""A profile written from a join benchmark is that measurement: nothing hidden, nothing derived, read back as it was."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.worker import Capabilities, Hardware, ModelInstance
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.simulated_profile import profile_toml, scatter
from workers.benchmark.speed_fit import fit_speed
from workers.engines.simulated.batch.core import SimulatedCore
from workers.engines.simulated.batch.sequence import Sequence_
from workers.engines.simulated.parameters import EngineParameters, times
from workers.engines.simulated.profile import ProfileError, read_profile

HARDWARE = Hardware(kind="cpu", name="AMD EPYC", memory_bytes=24 * 2**30, usable_memory_bytes=20 * 2**30, cores=2)
LOADED = ModelInstance(
    model="m", quantization="q8_0", format="gguf", context_tokens=1024, slots=16, capabilities=Capabilities(),
    weights_bytes=145 * 10**6, parameters=135 * 10**6, layers=30, kv_heads=3, head_dim_k=64, head_dim_v=64,
    kv_capacity_tokens=16 * 1024, kv_bytes_per_token=23040,
)  # fmt: skip


def true_step_s(batch: int, context: int, prefill: int) -> float:
    """A machine with bends: one sequence is cheap, a second dear; short prompts cost more a token."""
    decode = 0.0 if not batch else (0.010 if batch == 1 else 0.028 + 0.003 * batch) + 1e-6 * context
    return decode + (0.02 + 0.05 * (prefill / 16) ** 0.7 if prefill else 0.0)


def samples(noise: float = 0.0, seed: int = 1) -> list[StepSample]:
    rng = random.Random(seed)
    cases = [(b, 40 * b, 0) for b in range(1, 17) for _ in range(6)]
    cases += [(b, 600 * b, 0) for b in (1, 2) for _ in range(6)]
    cases += [(b, 40 * b, p) for b in (0, 1, 3, 6, 12) for p in (4, 8, 16, 24, 32, 48, 64, 96, 128)]
    return [
        StepSample(
            batch=b,
            context_tokens=c,
            prefill_tokens=p,
            step_s=true_step_s(b, c, p) * max(rng.gauss(1.0, noise), 0.2),
            prefills=1 if p else 0,
        )
        for b, c, p in cases
    ]


def measured(noise: float = 0.0) -> MeasuredSpeed:
    speed = fit_speed(samples(noise), weights_bytes=LOADED.weights_bytes)
    assert speed is not None
    return speed


def written(tmp_path: Path, speed: MeasuredSpeed) -> Path:
    path = tmp_path / "profile.toml"
    path.write_text(profile_toml(HARDWARE, "llama.cpp", LOADED, speed))
    return path


def test_what_was_measured_is_what_the_simulated_engine_has(tmp_path: Path) -> None:
    """The curves, not only the lines; and what it declares is what it is."""
    profile = read_profile(str(written(tmp_path, measured())))
    assert profile.true == profile.declared
    assert profile.machine.name == "AMD EPYC"
    parameters = profile.true
    assert (parameters.slots, parameters.context_tokens, parameters.kv_capacity_tokens) == (16, 1024, 16 * 1024)
    assert (parameters.prefill_chunk_tokens, parameters.sequence_chunk_tokens) == (128, 128)
    for batch in (1, 2, 5, 16):
        assert parameters.decode_s(batch, 40 * batch) == pytest.approx(true_step_s(batch, 40 * batch, 0), rel=0.03)
    for tokens in (4, 16, 24, 40, 64, 128):
        assert parameters.prefill_s(tokens, 0) == pytest.approx(true_step_s(0, 0, tokens), rel=0.10)


def test_the_simulated_engine_takes_as_long_as_the_machine_did(tmp_path: Path) -> None:
    """One request alone: its prefill, then its steps, on the virtual clock."""
    parameters = replace(read_profile(str(written(tmp_path, measured()))).true, noise=0.0)
    core = SimulatedCore(parameters, random.Random(0))
    sequence = Sequence_(key=1, prompt_tokens=32, output_tokens=20)
    core.submit(0.0, sequence)
    while len(core):
        core.step(core.next_event_at())
    assert sequence.first_at == pytest.approx(true_step_s(0, 0, 32), rel=0.08)
    decode = sum(true_step_s(1, 32 + step, 0) for step in range(1, 20))
    assert sequence.ended_at is not None
    assert sequence.ended_at - sequence.first_at == pytest.approx(decode, rel=0.05)


def test_a_long_prompt_takes_its_chunks(tmp_path: Path) -> None:
    """300 tokens are 128 + 128 + 44: three steps."""
    parameters = replace(read_profile(str(written(tmp_path, measured()))).true, noise=0.0, prefill_attention=0.0)
    core = SimulatedCore(parameters, random.Random(0))
    sequence = Sequence_(key=1, prompt_tokens=300, output_tokens=1)
    core.submit(0.0, sequence)
    while len(core):
        core.step(core.next_event_at())
    expected = 2 * true_step_s(0, 0, 128) + true_step_s(0, 0, 44)
    assert sequence.first_at == pytest.approx(expected, rel=0.05)


def test_an_engine_that_takes_little_of_one_prompt_at_a_time_is_imitated_in_that(tmp_path: Path) -> None:
    """Two prompts may share a step of 128 tokens, but of either only 63: alone, 300 tokens take five steps."""
    pairs = [replace(one, prefills=2) if one.prefill_tokens > 63 else one for one in measured().samples]
    speed = replace(
        measured(),
        samples=(
            *pairs,
            StepSample(batch=0, context_tokens=0, prefill_tokens=63, step_s=true_step_s(0, 0, 63), prefills=1),
        ),
    )
    parameters = replace(read_profile(str(written(tmp_path, speed))).true, noise=0.0)
    assert (parameters.prefill_chunk_tokens, parameters.sequence_chunk_tokens) == (128, 63)
    core = SimulatedCore(parameters, random.Random(0))
    core.submit(0.0, Sequence_(key=1, prompt_tokens=300, output_tokens=1))
    while len(core):
        core.step(core.next_event_at())
    assert core.steps_done == 5


def test_noise_is_the_spread_of_steps_that_do_the_same() -> None:
    """Unequal batches, contexts and prefills do not pass for noise, nor noise for drift."""
    assert scatter(measured(0.0), 16).noise < 0.05
    noisy = scatter(measured(0.2), 16)
    assert noisy.noise == pytest.approx(0.2, abs=0.05)
    assert noisy.drift < 0.1


def test_slow_spells_are_told_from_slow_steps() -> None:
    """Seconds that are slow together are drift, though every step in them agrees."""
    rng = random.Random(3)
    steps = [one for one in samples() if one.prefill_tokens == 0] * 4
    rng.shuffle(steps)
    spells = [
        replace(one, step_s=one.step_s * (1.3 if (number // 60) % 2 else 0.7)) for number, one in enumerate(steps)
    ]
    speed = fit_speed(spells)
    assert speed is not None
    found = scatter(speed, 16)
    assert found.drift == pytest.approx(0.3, abs=0.1)
    assert found.noise < 0.15


def test_drift_makes_waiting_longer_at_the_same_mean_speed(tmp_path: Path) -> None:
    """Why it is modelled: slow seconds that come together make queues."""
    steady = replace(read_profile(str(written(tmp_path, measured()))).true, noise=0.0)

    def waited_s(parameters: EngineParameters) -> float:
        rng = random.Random(7)
        core = SimulatedCore(parameters, random.Random(1))
        at, sequences = 0.0, []
        for number in range(1500):
            at += rng.expovariate(4.0)
            core.step(at)
            sequences.append(Sequence_(key=number, prompt_tokens=32, output_tokens=8, arrived_at=at))
            core.submit(at, sequences[-1])
        while len(core):
            core.step(core.next_event_at())
        return sum((one.first_at or 0.0) - one.arrived_at for one in sequences) / len(sequences)

    assert waited_s(replace(steady, drift=0.3)) > 1.05 * waited_s(steady)


def test_lines_are_used_where_no_curve_was_measured(tmp_path: Path) -> None:
    """The profiles that ship have lines only."""
    parameters = read_profile("rtx-4090", shape="llama-3.1-8b", quantization="awq").true
    assert parameters.prefill_curve == ()
    assert parameters.prefill_s(100, 0) == pytest.approx(100 * parameters.prefill_token_s + parameters.prefill_base_s)


def test_a_slower_engine_is_slower_in_its_curves_too(tmp_path: Path) -> None:
    """``times`` is what "slow down by a factor" and "wrong profile" use."""
    true = read_profile(str(written(tmp_path, measured()))).true
    slow = times(true, 3.0)
    assert slow.prefill_s(40, 0) == pytest.approx(3 * true.prefill_s(40, 0))
    assert slow.decode_s(4, 0) == pytest.approx(3 * true.decode_s(4, 0))


def test_a_measurement_without_prefill_is_no_profile() -> None:
    """Better an error than a machine that prefills in no time."""
    bare = replace(measured(), samples=(), prefill_tokens_per_s=0.0)
    with pytest.raises(ValueError, match="measure it again"):
        profile_toml(HARDWARE, "llama.cpp", LOADED, bare)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("prefill_curve_tokens = [", "prefill_curve_tokens = [1000.0, ", "must rise"),
        ("prefill_curve_s = [", "prefill_curve_s = [-1.0, ", "above zero"),
        ("prefill_curve_s", "prefill_curve_z", "unknown field"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    """With the file and the field."""
    path = written(tmp_path, measured())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ProfileError, match=says):
        read_profile(str(path))
