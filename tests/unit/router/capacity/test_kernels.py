"""Steps by the kernels of NVIDIA's cards: against what an H100 did, and what must hold for any of them."""

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.machines.prediction import H100, ROWS, cells, errors
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.chips import CHIPS
from router.capacity.engines import LLAMA_CPP, VLLM
from router.capacity.machines import machine_of
from router.capacity.speed import Basis, how_sure, predict_speed

MODEL = ModelInstance(
    model="m", quantization="q4_k_m", format="gguf", weights_bytes=4_912_898_048, parameters=8_030_261_248, layers=32,
    kv_bytes_per_token=131_072, slots=64,
)  # fmt: skip
NVIDIA = sorted({chip.name for chip in CHIPS if chip.kind == "nvidia"})


def test_every_cell_of_the_h100_is_predicted_within_its_bounds() -> None:
    """Median at most 12%, worst at most 35%, over six models and batches of one to 64."""
    found = errors()
    assert len(found) == 7 * len(ROWS) == 42
    assert statistics.median(found) <= 0.12
    assert max(found) <= 0.35


def test_no_model_alone_is_far_off() -> None:
    """The bound holds for each of them, so that no constant serves one and spoils another."""
    for row in ROWS:
        off = [abs(predicted / measured - 1.0) for one, _, predicted, measured in cells() if one is row]
        assert statistics.median(off) <= 0.15, row.name


def test_prefill_is_predicted_by_engine() -> None:
    """llama.cpp's tiles reach a sixth of the tensor cores, vLLM's products most of them."""
    for row in ROWS:
        if row.prefill_tokens_per_s:
            assert predict_speed(H100, row.model).prefill_tokens_per_s == pytest.approx(
                row.prefill_tokens_per_s, rel=0.15
            )


def test_a_kernel_changes_behind_the_eighth_sequence() -> None:
    """A 70B of four bits takes longer with 8 than with 16; one of sixteen bits never changes after the second."""
    large = next(row.model for row in ROWS if row.name == "70B Q4_K_M")
    step = predict_speed(H100, large).step_s
    assert step(8, 0) > step(16, 0) > step(4, 0)
    whole = predict_speed(H100, next(row.model for row in ROWS if row.name == "8B F16")).step_s
    assert whole(9, 0) - whole(8, 0) < 0.05 * whole(8, 0)


@pytest.mark.parametrize("engine", ["gguf", "awq"])
@pytest.mark.parametrize("name", NVIDIA)
def test_every_card_is_priced(name: str, engine: str) -> None:
    """Steps take time, more sequences never make more tokens a second each, and prefill stays within the chip."""
    chip = next(one for one in CHIPS if one.name == name)
    model = replace(MODEL, format=engine, quantization="awq" if engine == "awq" else "q4_k_m")
    speed = predict_speed(Hardware(kind="nvidia", name=name, memory_bytes=int(chip.memory_bytes)), model)
    alone = speed.step_s(1, 0)
    assert alone >= 0.9 * MODEL.weights_bytes / chip.bandwidth_bytes_per_s
    assert all(speed.step_s(batch, 0) >= 0.99 * alone for batch in (2, 4, 8, 16, 32, 64))
    assert 0 < speed.prefill_tokens_per_s <= chip.compute_flops / (2 * MODEL.parameters)
    rates = [batch / speed.step_s(batch, 0) for batch in (16, 32, 64)]
    assert rates == sorted(rates)


@given(st.floats(1e11, 1e13), st.floats(1.01, 10), st.integers(1, 128), st.booleans())
def test_more_bandwidth_is_never_slower(bandwidth: float, factor: float, batch: int, packed: bool) -> None:
    """All else equal, on either path."""
    model = replace(MODEL, quantization="q4_k_m" if packed else "fp16")
    slow = replace(H100, bandwidth_bytes_per_s=bandwidth)
    fast = replace(H100, bandwidth_bytes_per_s=bandwidth * factor)
    assert predict_speed(fast, model).step_s(batch, 0) <= predict_speed(slow, model).step_s(batch, 0)


def test_the_line_for_those_who_know_no_curves_meets_it_at_both_ends() -> None:
    """One sequence, and as many as there are slots."""
    speed = predict_speed(H100, MODEL)
    line = replace(speed, decode_curve=())
    assert line.step_s(1, 100) == pytest.approx(speed.step_s(1, 100))
    assert line.step_s(64, 100) == pytest.approx(speed.step_s(64, 100))


def test_a_file_whose_parameters_nobody_told_is_priced_too() -> None:
    """By its bytes."""
    assert predict_speed(H100, replace(MODEL, parameters=0)).step_s(8, 0) > 0


TWO = {"devices": "1 x NVIDIA GeForce RTX 3090, 1 x NVIDIA GeForce RTX 3060"}
SIZES = {"devices_memory_bytes": f"{24 << 30}, {12 << 30}"}


def unlike(**details: str) -> Hardware:
    return Hardware(kind="nvidia", name="NVIDIA GeForce RTX 3090", count=2, memory_bytes=36 << 30, details=details)


def test_unlike_cards_take_turns_each_for_its_share() -> None:
    """llama.cpp: between the two; a third of the layers lies on the slow one."""
    fast, slow = (
        predict_speed(Hardware(kind="nvidia", name=name, memory_bytes=24 << 30), MODEL).step_s(1, 0)
        for name in ("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3060")
    )
    mixed = predict_speed(unlike(**TWO, **SIZES), MODEL).step_s(1, 0)
    assert fast < mixed < slow
    assert mixed == pytest.approx(2 / 3 * fast + 1 / 3 * slow, rel=0.01)


def test_unlike_cards_that_work_together_are_as_fast_as_the_slowest() -> None:
    """vLLM: every layer on both."""
    awq = replace(MODEL, format="awq", quantization="awq")
    two_slow = Hardware(kind="nvidia", name="NVIDIA GeForce RTX 3060", count=2, memory_bytes=24 << 30)
    assert predict_speed(unlike(**TWO, **SIZES), awq).step_s(1, 0) == predict_speed(two_slow, awq).step_s(1, 0)


def test_of_unlike_cards_vllm_fills_as_much_of_each_as_the_smallest_has() -> None:
    """llama.cpp fills each."""
    machine = machine_of(unlike(**TWO, **SIZES))
    assert VLLM.usable_bytes(machine) == 24 << 30
    assert LLAMA_CPP.usable_bytes(machine) == pytest.approx(0.9 * (36 << 30), rel=0.01)


@pytest.mark.parametrize(
    "details", [{}, TWO, {**TWO, "devices_memory_bytes": "x, y"}, {"devices": "nonsense", **SIZES},
                {"devices": "5 x NVIDIA GeForce RTX 3090, 1 x A", **SIZES}]
)  # fmt: skip
def test_a_list_of_devices_that_makes_no_sense_is_not_believed(details: dict[str, str]) -> None:
    """The machine is then what its name says."""
    assert predict_speed(unlike(**details), MODEL) == predict_speed(unlike(), MODEL)


def test_a_card_nobody_knows_makes_the_box_unknown() -> None:
    """Its share would be a guess."""
    strange = {"devices": "1 x NVIDIA GeForce RTX 3090, 1 x NVIDIA Z900", **SIZES}
    assert how_sure(unlike(**strange), MODEL) is Basis.GUESS


@pytest.mark.parametrize(
    ("kind", "name", "basis"),
    [
        ("nvidia", "NVIDIA H100 80GB HBM3", Basis.THIS_CHIP),
        ("nvidia", "NVIDIA GeForce RTX 4090", Basis.THIS_KIND),
        ("apple", "Apple M4 Max", Basis.THIS_KIND),
        ("nvidia", "NVIDIA A100-SXM4-80GB", Basis.SCALED),
        ("nvidia", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", Basis.SCALED),
        ("amd", "AMD Instinct MI300X", Basis.SCALED),
        ("nvidia", "NVIDIA Z900", Basis.GUESS),
        ("cpu", "AMD EPYC", Basis.GUESS),
    ],
)
def test_a_prediction_says_what_it_rests_on(kind: str, name: str, basis: Basis) -> None:
    """Measured there, on its kind, scaled, or guessed."""
    assert how_sure(Hardware(kind=kind, name=name), MODEL) is basis
