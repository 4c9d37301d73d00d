"""Rule: a round of alike sequences is what the closed forms say, and as long as pays on that machine."""

from dataclasses import replace

import pytest

from workers.speculation.acceptance import break_even_rtt_s, expected_tokens
from workers.speculation.rounds import Drafting, Rounds

DRAFT = Drafting(acceptance=0.7, base_s=0.0046)


def flat(rows: int, context_tokens: float) -> float:
    del rows, context_tokens
    return 0.052


def rising(rows: int, context_tokens: float) -> float:
    return 0.050 + 0.002 * rows + 1e-7 * context_tokens


@pytest.mark.parametrize("length", [0, 1, 3, 8])
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("acceptance", [0.0, 0.55, 0.8, 1.0])
@pytest.mark.parametrize("rtt_s", [0.0, 0.02])
def test_a_fixed_length_is_the_closed_form(length: int, batch: int, acceptance: float, rtt_s: float) -> None:
    """(1 - a^(k+1)) / (1 - a) tokens in verify(k+1) + k t_draft + rtt."""
    draft = replace(DRAFT, acceptance=acceptance, rtt_s=rtt_s, per_sequence_s=1e-4, fixed=length)
    done = Rounds(draft, rising).round(batch, 5000.0)
    yielded = length + 1 if acceptance == 1.0 else (1 - acceptance ** (length + 1)) / (1 - acceptance)
    waited = length * (0.0046 + 1e-4 * batch) + rtt_s if length else 0.0
    assert done.tokens == pytest.approx(yielded)
    assert done.seconds == pytest.approx(rising(batch * (length + 1), 5000.0) + waited)
    assert done.proposed == batch * length


@pytest.mark.parametrize("acceptance", [0.2, 0.55, 0.8, 0.95])
@pytest.mark.parametrize("rtt_s", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_the_governor_is_no_worse_than_any_fixed_length(acceptance: float, rtt_s: float, batch: int) -> None:
    """Within two percent, which is what it takes for no gain; where no length pays it is off."""
    draft = replace(DRAFT, acceptance=acceptance, rtt_s=rtt_s)
    rounds = Rounds(draft, rising)

    def rate(length: int | None) -> float:
        done = (rounds if length is None else Rounds(replace(draft, fixed=length), rising)).round(batch, 5000.0)
        return done.tokens / done.seconds

    best = max(range(draft.most + 1), key=rate)
    assert rate(None) >= 0.98 * rate(best)
    if best == 0:
        assert not any(rounds.lengths(batch, 5000.0))


@pytest.mark.parametrize("off", [-0.01, 0.02])
def test_beyond_the_break_even_round_trip_it_is_off(off: float) -> None:
    """RTT* = E t_t - t_v - k t_d, at its greatest over all lengths."""
    limit = max(
        break_even_rtt_s(0.7, length, plain_s=0.052, verify_s=0.052, draft_token_s=0.0046) for length in range(1, 9)
    )
    lengths = Rounds(replace(DRAFT, rtt_s=limit + off), flat).lengths(1, 0.0)
    assert any(lengths) == (off < 0)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_target_that_drafts_elsewhere_serves_so_many_times_as_many(length: int) -> None:
    """1 + k t_draft / t_verify, where others' verification hides the wait (arXiv 2606.25091)."""
    beside = Rounds(replace(DRAFT, fixed=length), flat).round(1, 0.0)
    apart = Rounds(replace(DRAFT, fixed=length, rtt_s=0.03, overlap_s=1.0), flat).round(1, 0.0)
    capacity = (apart.tokens / apart.seconds) / (beside.tokens / beside.seconds)
    assert capacity == pytest.approx(1 + length * 0.0046 / 0.052)
    assert apart.tokens == beside.tokens == pytest.approx(expected_tokens(0.7, length))
