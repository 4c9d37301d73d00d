"""Rule: proposals change how fast an answer comes, never which; and the closed forms are those of the literature."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.speculation.acceptance import accept, break_even_rtt_s, expected_tokens, expected_tokens_of, round_time_s

TOKENS = st.lists(st.integers(0, 3), max_size=12)


@given(answer=st.lists(st.integers(0, 3), min_size=13, max_size=13), proposal=TOKENS)
def test_what_is_drawn_is_the_answer_as_far_as_the_proposal_holds(answer: list[int], proposal: list[int]) -> None:
    """Each row is drawn once, in order, and the round ends with the first token that was not proposed."""
    drawn: list[int] = []

    def draw(row: int) -> int:
        assert row == len(drawn)
        drawn.append(answer[row])
        return answer[row]

    accepted = accept(proposal, draw)
    assert drawn == answer[: accepted + 1]
    assert proposal[:accepted] == answer[:accepted]
    assert accepted == len(proposal) or proposal[accepted] != answer[accepted]


@given(proposal=st.lists(st.integers(0, 1), min_size=1, max_size=6), ends_at=st.integers(0, 6))
def test_an_answer_that_ends_takes_nothing_more(proposal: list[int], ends_at: int) -> None:
    """No row is drawn after the last token."""
    rows: list[int] = []

    def draw(row: int) -> int | None:
        rows.append(row)
        return None if row == ends_at else proposal[row] if row < len(proposal) else 0

    accepted = accept(proposal, draw)
    assert accepted <= ends_at
    assert rows == list(range(min(ends_at, len(proposal)) + 1))


@pytest.mark.parametrize("proposed", [[0, 0, 0], [3, 1, 2], [2, 2, 1]])
def test_sampled_answers_keep_the_targets_distribution(proposed: list[int]) -> None:
    """Whatever is proposed: 40,000 answers of three tokens from a small vocabulary, by chi-squared."""
    dice = np.random.default_rng(11)
    first = np.array([0.5, 0.25, 0.15, 0.1])
    follow = np.array([[0.1, 0.6, 0.2, 0.1], [0.3, 0.3, 0.3, 0.1], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(40_000):
        answer: list[int] = []
        while len(answer) < 3:
            start = len(answer)

            def draw(row: int, answer: list[int] = answer) -> int | None:
                chances = first if not answer else follow[answer[-1]]
                answer.append(int(dice.choice(4, p=chances)))
                return answer[-1] if len(answer) < 3 else None

            accept(proposed[start:2], draw)
        seen[tuple(answer)] += 1
    statistic = 0.0
    for a in range(4):
        for b in range(4):
            for c in range(4):
                expected = 40_000 * first[a] * follow[a][b] * follow[b][c]
                statistic += (seen[a, b, c] - expected) ** 2 / expected
    assert statistic < 63 + 4.0 * math.sqrt(2 * 63)  # chi-squared with 63 degrees of freedom


@given(acceptance=st.floats(0.0, 1.0), length=st.integers(0, 20))
def test_the_closed_form_is_the_sum_of_the_chances(acceptance: float, length: int) -> None:
    """Leviathan et al.: (1 - a^(k+1)) / (1 - a)."""
    summed = sum(acceptance**power for power in range(length + 1))
    assert expected_tokens(acceptance, length) == pytest.approx(summed, rel=1e-6)
    assert expected_tokens_of([acceptance] * length) == pytest.approx(summed, rel=1e-6)


@given(
    acceptance=st.floats(0.05, 0.99), length=st.integers(1, 12),
    plain_s=st.floats(0.001, 0.1), dearer=st.floats(1.0, 3.0), draft=st.floats(0.0, 0.01),
)  # fmt: skip
def test_at_the_break_even_round_trip_a_round_is_worth_its_plain_steps(
    acceptance: float, length: int, plain_s: float, dearer: float, draft: float
) -> None:
    """Nothing won, nothing lost."""
    verify_s = plain_s * dearer
    rtt = break_even_rtt_s(acceptance, length, plain_s=plain_s, verify_s=verify_s, draft_token_s=draft)
    if rtt <= 0.0:
        return
    took = round_time_s(length, verify_s=verify_s, draft_token_s=draft, rtt_s=rtt)
    assert took == pytest.approx(expected_tokens(acceptance, length) * plain_s, rel=1e-6)


@pytest.mark.parametrize(("plain_ms", "expected_ms"), [(7.8, 0.0), (32.0, 35.0), (52.0, 66.0)])
def test_worked_examples(plain_ms: float, expected_ms: float) -> None:
    """A 1B draft of 4.6 ms a token at 0.7, three tokens: an 8B, a 27B and a 70B target on cards of these step times."""
    rtt = break_even_rtt_s(0.7, 3, plain_s=plain_ms / 1e3, verify_s=plain_ms / 1e3, draft_token_s=0.0046)
    assert 1e3 * rtt == pytest.approx(expected_ms, abs=2.5)
