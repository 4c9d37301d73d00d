"""The fit of the cost parameters: exact on what the model can say, honest about what it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.benchmark.least_squares import least_squares, non_negative_least_squares
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.speed_fit import fit_speed, median_relative_error, predicted_step_s

positive = st.floats(1e-5, 1e-1)


def samples_of(speed: MeasuredSpeed) -> list[StepSample]:
    cases = [(b, c, 0) for b in (1, 2, 4, 8, 16) for c in (32 * b, 400 * b)]
    cases += [(0, 0, p) for p in (16, 64, 256)] + [(b, 100 * b, p) for b in (1, 4, 15) for p in (16, 128)]
    bare = [StepSample(batch=b, context_tokens=c, prefill_tokens=p, step_s=0.0) for b, c, p in cases]
    return [
        StepSample(
            batch=one.batch,
            context_tokens=one.context_tokens,
            prefill_tokens=one.prefill_tokens,
            step_s=predicted_step_s(speed, one),
        )
        for one in bare
    ]


@given(positive, positive, st.floats(1e-8, 1e-4), st.floats(50, 1e5), st.floats(1e-5, 1e-2))
def test_parameters_are_recovered_from_steps_they_produced(
    base: float, per_sequence: float, per_token: float, rate: float, prefill_base: float
) -> None:
    """Steps made by the formula give the formula back."""
    truth = MeasuredSpeed(
        base_s=base,
        per_sequence_s=per_sequence,
        per_context_token_s=per_token,
        prefill_tokens_per_s=rate,
        prefill_base_s=prefill_base,
    )
    fitted = fit_speed(samples_of(truth), weights_bytes=1000)
    assert fitted is not None
    assert fitted.measured
    assert median_relative_error(fitted) < 1e-3
    for one in samples_of(truth):
        assert predicted_step_s(fitted, one) == pytest.approx(one.step_s, rel=0.02)


@given(st.lists(st.lists(st.floats(0.01, 10), min_size=3, max_size=3), min_size=4, max_size=8), st.data())
def test_no_parameter_is_ever_negative_and_no_neighbour_is_better(rows: list[list[float]], data: st.DataObject) -> None:
    """The optimality condition of non-negative least squares: the gradient vanishes or points outward."""
    values = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(rows), max_size=len(rows))))
    matrix = np.array(rows)
    x = np.array(non_negative_least_squares(rows, values.tolist()))
    assert np.all(x >= 0)
    error = np.sum((matrix @ x - values) ** 2)
    for column in range(3):
        for step in (1e-3, -1e-3):
            moved = x.copy()
            moved[column] = max(0.0, moved[column] + step)
            assert np.sum((matrix @ moved - values) ** 2) >= error - 1e-6


@given(st.lists(st.lists(st.floats(0.01, 10), min_size=3, max_size=3), min_size=4, max_size=8), st.data())
def test_least_squares_are_numpys(rows: list[list[float]], data: st.DataObject) -> None:
    """The residual is no longer than numpy's; a column that follows from the others is said to."""
    values = data.draw(st.lists(st.floats(-5, 5), min_size=len(rows), max_size=len(rows)))
    ours = least_squares(list(zip(*rows, strict=True)), values)
    theirs, *_ = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)
    if ours is None:
        assert np.linalg.cond(np.array(rows)) > 1e6
    else:
        error = np.sum((np.array(rows) @ np.array(ours) - values) ** 2)
        assert error <= np.sum((np.array(rows) @ theirs - values) ** 2) + 1e-6
    assert least_squares([(1.0, 2.0, 3.0), (2.0, 4.0, 6.0)], [1.0, 2.0, 3.0]) is None


def test_without_a_decode_step_there_is_no_speed() -> None:
    """Prefill alone tells nothing about decode."""
    assert fit_speed([StepSample(batch=0, context_tokens=0, prefill_tokens=10, step_s=1.0)]) is None


def test_effective_bandwidth_is_weights_read_per_second_at_batch_one() -> None:
    """1 GB read in a step of 10 ms is 100 GB/s."""
    samples = [StepSample(batch=1, context_tokens=c, prefill_tokens=0, step_s=0.01) for c in (10, 20, 30)]
    fitted = fit_speed(samples, weights_bytes=10**9)
    assert fitted is not None
    assert fitted.effective_bandwidth_bytes_per_s == pytest.approx(1e11, rel=0.01)


def test_a_lone_short_prompt_bound_by_the_weights_says_nothing_of_prefill() -> None:
    """Four tokens alone take a whole pass over the weights; that they were dear a token must not spoil the rate."""
    truth = MeasuredSpeed(base_s=0.008, per_sequence_s=1.6e-4, per_context_token_s=0.0, prefill_tokens_per_s=5500.0)
    lone = [
        StepSample(batch=0, context_tokens=p, prefill_tokens=p, step_s=max(truth.base_s, p / 5500.0))
        for p in (2, 4, 8, 16, 32, 60, 90, 120)
    ]
    fitted = fit_speed([*(one for one in samples_of(truth) if one.batch), *lone])
    assert fitted is not None
    assert fitted.prefill_tokens_per_s == pytest.approx(5500.0, rel=0.05)
