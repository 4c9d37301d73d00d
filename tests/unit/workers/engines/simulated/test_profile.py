"""Profiles of machines: what ships can be used, what strays is bounded, what is wrong is said; and the formula."""

from pathlib import Path

import pytest

from workers.engines.simulated import content
from workers.engines.simulated.parameters import DoesNotFit, Machine, combine
from workers.engines.simulated.profile import SHAPES, ProfileError, read_profile, shipped_profiles

FIELDS = ("base_s", "per_sequence_s", "per_context_token_s", "prefill_token_s")


@pytest.mark.parametrize("machine", shipped_profiles())
def test_every_machine_that_ships_serves_a_small_model(machine: str) -> None:
    """At every quantization it may be asked for."""
    for quantization in ("fp16", "q8_0", "q4_k_m"):
        profile = read_profile(machine, shape="llama-3.2-1b", quantization=quantization)
        assert profile.declared.kv_capacity_tokens > 4096
        assert profile.declared.base_s > 0


def test_step_time_is_designs_formula() -> None:
    """t0 by layers, weights and context over the bandwidth that is reached, compute per sequence."""
    machine = Machine(
        name="x", memory_bytes=80e9, usable_bytes=70e9, bandwidth_bytes_per_s=1e12, efficiency=0.8, step_base_s=0.002,
        prefill_flops=1e14, decode_flops=2e14, compute_share={"q8_0": 0.5},
    )  # fmt: skip
    shape = SHAPES["llama-3.1-8b"]
    p = combine(machine, shape, "q8_0")
    weights = 8.03e9 * 8.501 / 8
    per_sequence = 2 * 8.03e9 / (2e14 * 0.5)
    assert p.decode_s(1, 0) == pytest.approx(0.002 + weights / 0.8e12)
    assert p.decode_s(9, 0) - p.decode_s(1, 0) == pytest.approx(8 * per_sequence)
    assert p.decode_s(1, 5000) - p.decode_s(1, 0) == pytest.approx(5000 * 131072 / 0.8e12)
    assert p.prefill_token_s == pytest.approx(2 * 8.03e9 / (1e14 * 0.5))
    assert p.kv_capacity_tokens == int((70e9 - weights) / 131072)


def test_hidden_parameters_stray_by_a_fifth_at_most_and_by_the_seed() -> None:
    """The worker's profile says one thing, its engine does another; 0 believes the profile to the letter."""
    ratios = []
    for seed in range(60):
        profile = read_profile("m4-max-128gb", seed=seed)
        ratios += [getattr(profile.true, field) / getattr(profile.declared, field) for field in FIELDS]
        again = read_profile("m4-max-128gb", seed=seed)
        assert again.true == profile.true
    assert all(0.8 <= ratio <= 1.2 for ratio in ratios)
    assert min(ratios) < 0.83
    assert max(ratios) > 1.17


def test_a_wrong_profile_promises_more_than_it_keeps(tmp_path: Path) -> None:
    """``wrong_by``: really so many times as slow."""
    path = tmp_path / "liar.toml"
    path.write_text('machine = "rtx-4090"\n[behaviour]\nhidden = 0\nwrong_by = 2.0\n')
    profile = read_profile(str(path))
    for field in FIELDS:
        assert getattr(profile.true, field) == pytest.approx(2.0 * getattr(profile.declared, field))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('machine = "abacus"', "machine 'abacus' does not ship; choose a100-80gb"),
        ('machine = "rtx-4090"\n[modle]', "unknown field modle"),
        ('machine = "rtx-4090"\n[model]\nshape = "gpt-9"', "model.shape 'gpt-9' is not known"),
        ('machine = "rtx-4090"\n[behaviour]\nhidden = 1.5', "behaviour.hidden is below 1"),
        ('machine = "rtx-4090"\n[behaviour]\nnoise = -1', "behaviour.noise must be a number that is not negative"),
        ('[hardware]\nname = "x"', "hardware.memory_gib is missing"),
        ('machine = "rtx-4090"\n[model]\nshape = "llama-3.3-70b"', "do not fit"),
        ('machine = "rtx-4090"\n[model]\nquantization = "q99"', "unknown quantization 'q99'"),
        ("machine = ", "Invalid value"),
    ],
)
def test_what_is_wrong_with_a_profile_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    """Naming the file."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=says) as error:
        read_profile(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_profile_names_those_that_ship(tmp_path: Path) -> None:
    """Instead of a bare "no such file"."""
    with pytest.raises(ProfileError, match="rtx-4090"):
        read_profile(str(tmp_path / "nothing.toml"))


def test_what_does_not_fit_is_told_with_figures() -> None:
    """No machine has a KV cache of nothing."""
    machine = Machine(
        name="small", memory_bytes=8e9, usable_bytes=6e9, bandwidth_bytes_per_s=1e11, efficiency=0.8, step_base_s=0.0,
        prefill_flops=1e12, decode_flops=1e12,
    )  # fmt: skip
    with pytest.raises(DoesNotFit, match=r"15\.0 GiB of weights \(fp16\) do not fit 5\.6 GiB usable of small"):
        combine(machine, SHAPES["llama-3.1-8b"], "fp16")


def test_a_token_is_a_function_of_prompt_and_position() -> None:
    """A test can check a stream that moved between workers word by word."""
    key = content.prompt_key("Once upon a time")
    whole = content.answer(key, 0, 30)
    assert whole == content.answer(key, 0, 11) + content.answer(key, 11, 19)
    assert content.answer(content.prompt_key("Once upon a time."), 0, 30) != whole
    assert content.tokenize(whole) == [content.token_text(content.token_at(key, at)) for at in range(30)]
    assert len({content.token_at(key, at) for at in range(30)}) > 15
