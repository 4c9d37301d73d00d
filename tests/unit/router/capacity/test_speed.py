"""Predicted speed against the measured table, and what must hold for any machine."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.decode import measure
from router.capacity.speed import predict_speed
from router.domain.worker import Hardware, ModelInstance

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


@given(st.floats(1e9, 1e13), st.floats(1.01, 10), st.integers(1, 64), st.integers(0, 10**6))
def test_more_bandwidth_is_never_slower(bandwidth: float, factor: float, batch: int, context: int) -> None:
    """All else equal."""
    slow = Hardware(kind="cpu", name="x", bandwidth_bytes_per_s=bandwidth)
    fast = replace(slow, bandwidth_bytes_per_s=bandwidth * factor)
    assert predict_speed(fast, MODEL).step_s(batch, context) <= predict_speed(slow, MODEL).step_s(batch, context)
