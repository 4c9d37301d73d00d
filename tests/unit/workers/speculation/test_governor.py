"""Rule: the lengths allotted make the most tokens a second there is to be made, and never slow a neighbour much."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.speculation.acceptance import expected_tokens, expected_tokens_of, round_time_s
from workers.speculation.governor import BEGIN_GAIN, KEEP_GAIN, PROBE_EVERY, SLOWEST, Candidate, Governor, allot
from workers.speculation.verify_curve import VerifyCurve

H100_8B_Q4_K_M = [(1, 3.99), (2, 4.59), (4, 6.16), (8, 8.83), (16, 8.73), (32, 10.75), (64, 15.71)]
H100_8B_F16 = [(1, 6.27), (2, 8.41), (4, 8.49), (8, 8.91), (16, 9.65), (32, 10.32), (64, 12.64)]
CPU_Q8_0 = [(1, 10.0), (2, 27.0), (4, 35.0), (8, 49.0)]
"""Milliseconds of a step by its rows: one H100 with llama.cpp, 27 November 2026; a server core."""

CURVES = {"h100 q4_k_m": H100_8B_Q4_K_M, "h100 f16": H100_8B_F16, "cpu q8_0": CPU_Q8_0}


def curve(name: str) -> Callable[[int], float]:
    return VerifyCurve([(rows, ms / 1e3) for rows, ms in CURVES[name]]).seconds


CHANCES = st.lists(st.floats(0.05, 0.99), max_size=3).map(tuple)


@settings(max_examples=150)
@given(
    chances=st.lists(CHANCES, min_size=1, max_size=3), name=st.sampled_from(sorted(CURVES)), prefill=st.integers(0, 6)
)
def test_no_other_lengths_are_better(chances: list[tuple[float, ...]], name: str, prefill: int) -> None:
    """Against every combination there is."""
    step_s, plain = curve(name), len(chances) + prefill
    chosen = allot([Candidate(one) for one in chances], step_s, plain_rows=plain, most_rows=64, on=True)
    best = 1.0
    for lengths in itertools.product(*(range(len(one) + 1) for one in chances)):
        tokens = [expected_tokens_of(one[:length]) for one, length in zip(chances, lengths, strict=True)]
        slower = step_s(plain + sum(lengths)) / step_s(plain)
        if min(tokens) >= SLOWEST * slower:
            best = max(best, sum(tokens) / len(tokens) / slower)
    assert chosen.gain >= best * 0.999 or best < KEEP_GAIN or len(chances) > 1
    assert chosen.gain <= best + 1e-9
    assert all(length <= len(one) for length, one in zip(chosen.lengths, chances, strict=True))


@pytest.mark.parametrize("name", sorted(CURVES))
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("rtt_ms", [0.0, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("acceptance", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_within_five_percent_of_the_best_fixed_length(name: str, batch: int, rtt_ms: float, acceptance: float) -> None:
    """On measured verify curves, alike sequences, a draft of half a millisecond a token; off where nothing pays."""
    step_s, most = curve(name), 8
    draft_s, wait_s = 0.0005, rtt_ms / 1e3
    candidates = [Candidate((acceptance,) * most, draft_s, wait_s)] * batch
    chosen = allot(candidates, step_s, plain_rows=batch, most_rows=16 * batch, on=True)

    def gain(length: int) -> float:
        took = round_time_s(length, verify_s=step_s(batch * (1 + length)), draft_token_s=draft_s, rtt_s=wait_s)
        return expected_tokens(acceptance, length) * step_s(batch) / took

    best = max(gain(length) for length in range(most + 1))
    assert chosen.gain >= 0.95 * best
    if best <= 1.0:
        assert not any(chosen.lengths)


def test_it_begins_late_and_stays_a_little() -> None:
    """A gain of three and a half percent keeps it on, and does not switch it on: no flicker."""
    costs = {1: 1.0, 2: 1.5 / 1.035}.__getitem__
    candidate = [Candidate((0.5,))]
    assert KEEP_GAIN < 1.5 / costs(2) < BEGIN_GAIN
    assert allot(candidate, costs, plain_rows=1, most_rows=2, on=False).lengths == (0,)
    assert allot(candidate, costs, plain_rows=1, most_rows=2, on=True).lengths == (1,)


def test_who_does_not_speculate_is_not_slowed() -> None:
    """A neighbour without proposals pays for the rows of the others; where that is much, there are none."""
    alone = [Candidate((0.9,) * 8)]
    together = [*alone, Candidate()]
    assert any(allot(alone, curve("cpu q8_0"), plain_rows=1, most_rows=64, on=True).lengths)
    assert allot(together, curve("cpu q8_0"), plain_rows=2, most_rows=64, on=True).lengths == (0, 0)
    flat = {rows: 1.0 + 0.001 * rows for rows in range(1, 65)}.__getitem__
    assert allot(together, flat, plain_rows=2, most_rows=64, on=True).lengths == (8, 0)


@given(chances=st.lists(CHANCES, max_size=6), room=st.integers(0, 5))
def test_there_are_never_more_rows_than_room(chances: list[tuple[float, ...]], room: int) -> None:
    """The batch is of fixed size."""
    free = allot(
        [Candidate(one) for one in chances], lambda rows: 1.0, plain_rows=len(chances),
        most_rows=len(chances) + room, on=True,
    )  # fmt: skip
    assert sum(free.lengths) <= room


def step(governor: Governor, curve: VerifyCurve, chance: float) -> int:
    governor.begin_step()
    chosen = governor.allot([Candidate((chance,))], curve, plain_rows=1, most_rows=2)
    governor.chosen(chosen)
    return chosen.lengths[0]


def course(governor: Governor, curve: VerifyCurve, steps: int, *, chance: float, verified_s: float) -> list[int]:
    """What each of so many steps proposed, where a plain one takes 10 ms and one of two rows ``verified_s``."""
    lengths = []
    for _ in range(steps):
        length = step(governor, curve, chance)
        curve.observe(1 + length, verified_s if length else 0.010)
        lengths.append(length)
    return lengths


def test_a_length_that_seems_too_dear_is_tried_now_and_then() -> None:
    """The curve was measured with a pause at two rows; speculation comes on all the same, once steps told otherwise."""
    governor, curve = Governor(), VerifyCurve([(1, 0.010), (2, 0.018)])
    lengths = course(governor, curve, 20 * PROBE_EVERY, chance=0.7, verified_s=0.012)
    assert lengths[: PROBE_EVERY - 1] == [0] * (PROBE_EVERY - 1)
    assert all(lengths[-PROBE_EVERY:])


def test_what_never_pays_is_tried_ever_more_seldom() -> None:
    """Trying costs little, and next to nothing once it is known."""
    governor, curve = Governor(), VerifyCurve([(1, 0.010), (2, 0.016)])
    tried = course(governor, curve, 100 * PROBE_EVERY, chance=0.5, verified_s=0.016)
    first, later = sum(tried[: 10 * PROBE_EVERY]), sum(tried[-50 * PROBE_EVERY :])
    assert 1 <= first <= 10
    assert later <= 5  # of 800 steps
    assert not governor.on


def test_where_it_is_on_a_plain_step_is_tried_now_and_then() -> None:
    """The plain step was measured with a pause: it is cheaper than that, and then nothing pays."""
    governor, curve = Governor(), VerifyCurve([(1, 0.0118), (2, 0.016)])
    lengths = course(governor, curve, 40 * PROBE_EVERY, chance=0.5, verified_s=0.016)
    assert sum(lengths[: 2 * PROBE_EVERY - 1]) == 2 * PROBE_EVERY - 1
    assert sum(lengths[-10 * PROBE_EVERY :]) <= 5
    assert not governor.on
