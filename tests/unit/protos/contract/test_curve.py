"""Rule: between measured points a line, beyond them no more than a machine can do; a line is a special case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.curve import Curve, line_at
from protos.contract.worker import Speed
from tests.support.curves import H100_70B, curve, curves

LINE = Speed(base_s=0.02, per_sequence_s=0.0005, per_context_token_s=1e-7, prefill_tokens_per_s=2000.0)


@given(curves)
def test_a_measured_point_is_what_it_was_measured_to_be(points: Curve) -> None:
    for point in points:
        base_s, per_s = line_at(points, point.at)
        assert base_s + per_s * point.at == pytest.approx(point.seconds)


@given(curves, st.floats(0.0, 5000.0))
def test_between_two_points_lies_what_lies_between_their_times(points: Curve, at: float) -> None:
    base_s, per_s = line_at(points, at)
    seconds = base_s + per_s * at
    left = max((one for one in points if one.at <= at), key=lambda one: one.at, default=points[0])
    right = min((one for one in points if one.at > at), key=lambda one: one.at, default=None)
    if right is not None:
        low, high = sorted((left.seconds, right.seconds))
        assert low - 1e-9 <= seconds <= high + 1e-9


@given(curves, st.floats(1.0, 100.0))
def test_beyond_the_last_point_it_never_falls_nor_grows_faster_than_in_proportion(points: Curve, times: float) -> None:
    last = points[-1]
    at = last.at * times
    base_s, per_s = line_at(points, at)
    assert last.seconds * (1 - 1e-9) <= base_s + per_s * at <= last.seconds * times * (1 + 1e-9)


def test_a_kernel_that_changes_is_seen() -> None:
    """FACTS, one H100: 70B in Q4_K_M, 58.2 ms for 8 sequences and 45.8 for 16."""
    speed = Speed(
        base_s=0.025, per_sequence_s=0.001, per_context_token_s=0.0, prefill_tokens_per_s=1200.0, decode_curve=H100_70B
    )
    assert speed.step_s(8, 0) == pytest.approx(0.0582)
    assert speed.step_s(16, 0) == pytest.approx(0.0458)
    assert speed.decode_fixed_s == 0.0238
    assert speed.step_s(12, 0) == pytest.approx((0.0582 + 0.0458) / 2)


def test_a_speed_without_curves_is_its_straight_line_to_the_last_bit() -> None:
    """What a worker one version older says is priced as before."""
    for batch in range(65):
        assert LINE.step_s(batch, 1000) == LINE.base_s + LINE.per_sequence_s * batch + LINE.per_context_token_s * 1000
        assert LINE.sequences_s(batch) == LINE.per_sequence_s * batch
    assert LINE.prefill_s(700) == 700 * (1.0 / 2000.0)


def test_a_prompt_is_prefilled_by_the_curve_and_beyond_it_at_the_rate() -> None:
    speed = Speed(
        base_s=0.004, per_sequence_s=0.0, per_context_token_s=0.0, prefill_tokens_per_s=40_000.0, prefill_base_s=0.005,
        prefill_curve=curve((512, 0.019), (2048, 0.052)),
    )  # fmt: skip
    assert speed.prefill_s(0) == 0.005
    assert speed.prefill_s(256) == pytest.approx(0.012)
    assert speed.prefill_s(512) == pytest.approx(0.019)
    assert speed.prefill_s(2048) == pytest.approx(0.052)
    assert speed.prefill_s(6048) == pytest.approx(0.152)
