"""Curves from timed steps: they follow the samples, never fall, and say nothing where nothing was seen."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.speed_curves import PrefillCurve, decode_curve_s, prefill_attention, prefill_curve, rising

SPEED = MeasuredSpeed(base_s=0.01, per_sequence_s=0.002, per_context_token_s=0.0, prefill_tokens_per_s=500.0)


def of(*samples: tuple[int, int, float]) -> MeasuredSpeed:
    """(batch, prefill tokens, seconds)."""
    steps = tuple(
        StepSample(batch=b, context_tokens=0, prefill_tokens=p, step_s=s, prefills=1 if p else 0) for b, p, s in samples
    )
    return replace(SPEED, samples=steps)


pairs = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10)), min_size=1, max_size=12)


@given(pairs)
def test_rising_never_falls_and_keeps_the_weighted_mean(data: list[tuple[float, float]]) -> None:
    """Pooling moves mass between neighbours and loses none."""
    values, weights = [list(one) for one in zip(*data, strict=True)]
    fitted = rising(values, weights)
    assert all(one <= other + 1e-9 for one, other in pairwise(fitted))
    assert np.dot(fitted, weights) == pytest.approx(np.dot(values, weights), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_what_rises_already_is_left_alone(values: list[float]) -> None:
    """The nearest rising series to a rising series is itself."""
    assert rising(sorted(values), [1.0] * len(values)) == pytest.approx(sorted(values))


def test_between_batches_that_were_seen_lies_a_line_and_beyond_them_the_slope() -> None:
    """As far as anything was measured, and no further than the fit's own slope."""
    curve = decode_curve_s(of((1, 0, 0.010), (4, 0, 0.040), (8, 0, 0.044)), 10)
    assert curve == pytest.approx((0.010, 0.020, 0.030, 0.040, 0.041, 0.042, 0.043, 0.044, 0.046, 0.048))


def test_one_odd_measurement_does_not_make_more_sequences_quicker() -> None:
    """Neighbours that fall are averaged by how often they were seen."""
    curve = decode_curve_s(of((1, 0, 0.01), (2, 0, 0.05), (3, 0, 0.03), (3, 0, 0.03), (3, 0, 0.03)), 3)
    assert curve == pytest.approx((0.01, 0.035, 0.035))


def test_prefill_is_what_a_step_took_beyond_its_decoding() -> None:
    """By length, several sequences counted as their mean."""
    steps = of((1, 0, 0.01), (4, 0, 0.04), (0, 16, 0.08), (4, 16, 0.12), (1, 128, 0.41))
    (short, short_s), (long, long_s) = prefill_curve(steps, 16).points
    assert (short, long) == (16, 128)
    assert (short_s, long_s) == (pytest.approx(0.08), pytest.approx(0.40))


def test_nothing_seen_is_no_curve() -> None:
    """Then the lines hold."""
    assert decode_curve_s(of((2, 0, 0.02)), 8) == ()
    assert prefill_curve(of((2, 0, 0.02)), 8) == PrefillCurve()


def test_what_lies_before_makes_a_token_dearer() -> None:
    """Seen where one long prompt is taken in steps of as many tokens; the curve holds for a beginning."""

    def step(before: int, tokens: int, sequences: int = 1) -> StepSample:
        alone_s = 0.002 * tokens * (1.0 + 0.003 * (before + tokens / 2))
        return StepSample(
            batch=0,
            context_tokens=sequences * (before + tokens),
            prefill_tokens=sequences * tokens,
            step_s=sequences * alone_s,
            prefills=sequences,
        )

    chunks = [step(before, 60, sequences) for sequences in (1, 2) for before in range(0, 600, 60)]
    beside = StepSample(batch=1, context_tokens=700, prefill_tokens=60, step_s=0.35, prefills=1)
    decode = [StepSample(batch=b, context_tokens=0, prefill_tokens=0, step_s=0.01) for b in (1, 2)]
    speed = replace(of(), samples=(*chunks, step(0, 20), beside, *decode))
    curve = prefill_curve(speed, 2)
    assert prefill_attention(speed) == curve.attention == pytest.approx(0.003, rel=0.01)
    assert curve.points == ((20.0, pytest.approx(0.04, rel=0.02)), (60.0, pytest.approx(0.12, rel=0.02)))
    assert curve.seconds(speed, 60, 300) == pytest.approx(0.12 * (1 + 0.003 * 330), rel=0.02)
    assert prefill_attention(replace(speed, samples=(*chunks[:3], *decode))) == 0.0, "too few to tell"
