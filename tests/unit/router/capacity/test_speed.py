"""Predicted speed against the measured table, and what must hold for any machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.decode import measure
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.speed import predict_speed

MODEL = ModelInstance(
    model="m", quantization="q4_0", weights_bytes=4_000_000_000, parameters=7_000_000_000, layers=32,
    kv_bytes_per_token=131_072,
)  # fmt: skip


def test_decode_is_predicted_within_its_bounds() -> None:
    """Median error at most 8%, worst at most 25%, on machines that were measured."""
    errors = measure()
    assert errors["median_error"] <= 0.08
    assert errors["worst_error"] <= 0.25


def test_what_was_measured_wins_over_the_catalogue() -> None:
    """A Mac that reads slower than its chip should is priced as it reads."""
    sold = predict_speed(Hardware(kind="apple", name="Apple M4 Max"), MODEL)
    measured = predict_speed(Hardware(kind="apple", name="Apple M4 Max", bandwidth_bytes_per_s=200e9), MODEL)
    assert measured.step_s(1, 0) > sold.step_s(1, 0)


def test_an_unknown_chip_is_priced_not_refused() -> None:
    """Slow until it shows better."""
    speed = predict_speed(Hardware(kind="cpu", name="Abacus 3000"), MODEL)
    assert speed.step_s(1, 0) > 0
    assert speed.prefill_tokens_per_s > 0


SMALL = replace(MODEL, weights_bytes=145_000_000, parameters=134_515_008, layers=30, kv_bytes_per_token=23_040)


def processor(*, vector: str = "avx avx2 fma", threads: str = "1", cores: int = 8) -> Hardware:
    """As hardware detection and the engine report it."""
    return Hardware(kind="cpu", name="x", cores=cores, details={"vector": vector, "threads": threads})


def test_a_processor_is_priced_by_its_threads_and_its_vectors() -> None:
    """Prefill grows with both; one thread does not compute for all the cores there are."""
    one, four, wide = (
        predict_speed(machine, SMALL)
        for machine in (processor(), processor(threads="4"), processor(vector="avx avx2 avx512f"))
    )
    assert four.prefill_tokens_per_s == pytest.approx(4 * one.prefill_tokens_per_s)
    assert wide.prefill_tokens_per_s == pytest.approx(2 * one.prefill_tokens_per_s)
    assert 50 < one.prefill_tokens_per_s < 500, "a 135M model on one thread; it was taken for 3670"
    assert one.step_s(1, 0) > four.step_s(1, 0) > 0
    assert predict_speed(processor(threads="99", cores=4), SMALL) == predict_speed(processor(threads="4"), SMALL)


def test_one_sequence_on_a_processor_reads_and_computes_in_turn() -> None:
    """So its step takes at least as long as its prefill of one token, and a second sequence costs its compute."""
    speed = predict_speed(processor(), SMALL)
    assert speed.step_s(1, 0) > 1 / speed.prefill_tokens_per_s
    assert speed.step_s(2, 0) - speed.step_s(1, 0) == pytest.approx(1 / speed.prefill_tokens_per_s)


@pytest.mark.parametrize("threads", ["", "-1", "many", "9" * 40, "²"])
def test_threads_that_make_no_sense_are_not_believed(threads: str) -> None:
    """The cores count then."""
    speed = predict_speed(processor(threads=threads), SMALL)
    assert speed == predict_speed(processor(threads="8"), SMALL)


@given(st.floats(1e9, 1e13), st.floats(1.01, 10), st.integers(1, 64), st.integers(0, 10**6))
def test_more_bandwidth_is_never_slower(bandwidth: float, factor: float, batch: int, context: int) -> None:
    """All else equal."""
    slow = Hardware(kind="cpu", name="x", bandwidth_bytes_per_s=bandwidth)
    fast = replace(slow, bandwidth_bytes_per_s=bandwidth * factor)
    assert predict_speed(fast, MODEL).step_s(batch, context) <= predict_speed(slow, MODEL).step_s(batch, context)
