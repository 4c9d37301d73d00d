"""Rule: the curves are what was measured; seconds are spent where the curve may bend; no rate is 0 or beyond reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.worker import ModelInstance
from workers.benchmark.curve_fit import next_batch, with_curves
from workers.benchmark.measured_speed import Findings, Level, MeasuredSpeed, PromptTime

LINE = MeasuredSpeed(base_s=0.01, per_sequence_s=0.001, per_context_token_s=0.0, prefill_tokens_per_s=100.0)
MODEL = ModelInstance(
    model="m", quantization="q4_k_m", weights_bytes=5_000_000_000, kv_bytes_per_token=131_072, slots=64
)


def levels(*steps: tuple[int, float], context: int = 8) -> tuple[Level, ...]:
    return tuple(
        Level(batch=batch, context_tokens=context * batch, step_s=step_s, spread=0.01, steps=9)
        for batch, step_s in steps
    )


def test_the_next_batch_is_where_the_curve_bends_most() -> None:
    """One H100, 70B in Q4_K_M: up to 8, and down to 16."""
    assert next_batch(levels((1, 0.0238), (4, 0.0362), (16, 0.0458), (64, 0.0826)), 64) == 8
    assert next_batch(levels((1, 0.0238), (2, 0.0252), (4, 0.0362), (8, 0.0582), (16, 0.0458)), 64) == 12


def test_a_wide_gap_is_looked_into_however_straight_the_line() -> None:
    """A step between 16 and 64 shows in neither."""
    seen = levels(*((batch, 0.01 + 0.001 * batch) for batch in (1, 2, 4, 8, 16, 64)))
    assert next_batch(seen, 64) == 32


def test_a_straight_line_is_left_alone() -> None:
    assert next_batch(levels(*((batch, 0.01 + 0.001 * batch) for batch in (1, 2, 4, 8, 16, 32, 64))), 64) == 0
    assert next_batch(levels((1, 0.01), (2, 0.05)), 64) == 0
    assert next_batch(levels((1, 0.01)), 64) == 0
    assert next_batch((), 64) == 0


@given(st.lists(st.tuples(st.integers(1, 256), st.floats(1e-3, 1.0)), max_size=8, unique_by=lambda one: one[0]))
def test_looking_closer_ends(steps: list[tuple[int, float]]) -> None:
    """Every batch named is a new one between two that are there."""
    found = list(levels(*steps))
    for _ in range(300):
        batch = next_batch(found, 256)
        if not batch:
            return
        assert batch not in {one.batch for one in found}
        assert min(one.batch for one in found) < batch < max(one.batch for one in found)
        found += levels((batch, 0.5))
    pytest.fail("it goes on for ever")


steps = st.lists(
    st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.floats(1e-4, 2.0)), min_size=1, unique_by=lambda p: p[0]
)
prompts = st.lists(st.tuples(st.integers(1, 8000), st.floats(1e-3, 60.0)), max_size=5)


@given(steps, prompts, st.lists(st.tuples(st.integers(1, 50_000), st.floats(1e-4, 3.0)), max_size=2))
def test_whatever_was_measured_the_speed_can_be_told(
    decoded: list[tuple[int, float]], timed: list[tuple[int, float]], long: list[tuple[int, float]]
) -> None:
    """Steps above zero, prompts that never take less for being longer, a rate within twice the longest prompt's."""
    found = Findings(
        levels=levels(*decoded),
        prompts=tuple(PromptTime(tokens=tokens, seconds=seconds) for tokens, seconds in timed),
        long=tuple(Level(batch=1, context_tokens=tokens, step_s=step, steps=5) for tokens, step in long),
    )
    speed = with_curves(LINE, found, MODEL)
    assert speed.per_context_token_s >= 0.0
    assert speed.base_s + speed.per_sequence_s > 0.0
    for one in found.levels:
        assert 0.5 * one.step_s <= speed.step_s(one.batch, one.context_tokens) <= one.step_s * (1 + 1e-9)
    assert [one.at for one in speed.decode_curve] == sorted({batch for batch, _ in decoded})
    taken = [one.seconds for one in speed.prefill_curve]
    assert taken == sorted(taken)
    if timed:
        longest = speed.prefill_curve[-1]
        assert longest.at / longest.seconds * (1 - 1e-9) <= speed.prefill_tokens_per_s
        assert speed.prefill_tokens_per_s <= 2 * longest.at / longest.seconds * (1 + 1e-9)
    else:
        assert speed.prefill_tokens_per_s == LINE.prefill_tokens_per_s


def test_what_a_context_token_costs_is_measured_or_taken_from_its_bytes() -> None:
    """88 us more for 2,048 tokens is told by steps that differ by one percent; 8 us is not, and bounds the guess."""
    short = levels((1, 0.004))
    for more_s, expected in ((0.000088, 0.000088 / 2040), (0.000004, 0.000044 / 2040)):
        long = (Level(batch=1, context_tokens=2048, step_s=0.004 + more_s, spread=0.01, steps=9),)
        speed = with_curves(LINE, Findings(levels=short, long=long), MODEL)
        assert speed.per_context_token_s == pytest.approx(expected, rel=0.1)
    unseen = with_curves(LINE, Findings(levels=short), MODEL)
    assert unseen.per_context_token_s == pytest.approx(131_072 / (5e9 / 0.004))


def test_how_well_the_curve_fits_is_what_measuring_again_says() -> None:
    again = levels((1, 0.0044), (4, 0.006))
    speed = with_curves(LINE, Findings(levels=levels((1, 0.004), (4, 0.006)), again=again), MODEL)
    assert speed.fit_error == pytest.approx((1 - 0.004 / 0.0044) / 2, rel=0.05)


def test_of_a_batch_measured_twice_the_lower_counts() -> None:
    """Whatever else a machine did made it slower."""
    speed = with_curves(LINE, Findings(levels=(*levels((1, 0.009), (4, 0.006)), *levels((1, 0.004)))), MODEL)
    assert speed.decode_curve[0].seconds == pytest.approx(0.004, rel=0.01)


def test_without_levels_the_line_stays() -> None:
    assert with_curves(LINE, Findings(), MODEL) is LINE
