"""Rounds of alike sequences with a draft model: how long, what they yield and take. Pure; the simulated engine's.

Every sequence's proposals are accepted with the same chance, so a round is its mean: the closed forms of
``acceptance``, with the lengths that the governor allots by what verifying costs on that machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from workers.speculation.acceptance import expected_tokens, round_time_s
from workers.speculation.governor import Candidate, allot

MOST = 8
"""Proposals of a sequence in a round."""

CONTEXTS = 4.0
"""Lengths are worked out anew for so many contexts to an octave: they change slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """A draft model and where it stands. Seconds; ``acceptance``: chance of a proposal, once those before it held."""

    acceptance: float
    base_s: float  # a step of the draft model
    per_sequence_s: float = 0.0
    targets: float = 1.0  # as busy as this one, that it drafts for
    rtt_s: float = 0.0
    overlap_s: float = 0.0  # of its time and the round trip, hidden behind verification
    most: int = MOST
    fixed: int | None = None  # proposals of each sequence; None: the governor says

    def token_s(self, batch: int) -> float:
        """A token of each of ``batch`` sequences."""
        return self.base_s + self.per_sequence_s * batch * self.targets


@dataclass(frozen=True, slots=True)
class Round:
    """Of ``batch`` sequences together: ``tokens`` each, in the mean, of ``proposed`` ones in all."""

    tokens: float
    seconds: float
    proposed: int


class Rounds:
    """``step_s(rows, context_tokens)``: seconds of a step of the target.

    >>> rounds = Rounds(Drafting(acceptance=0.7, base_s=0.0046, fixed=3), lambda rows, context: 0.052)
    >>> done = rounds.round(1, 1000)
    >>> round(done.tokens, 3), round(done.seconds, 4)
    (2.533, 0.0658)
    """

    def __init__(self, drafting: Drafting, step_s: Callable[[int, float], float]) -> None:
        self._drafting = drafting
        self._step_s = step_s
        self._lengths: dict[tuple[int, int], tuple[int, ...]] = {}  # as many as batches and octaves of context

    def round(self, batch: int, context_tokens: float) -> Round:
        """What a round of so many sequences, which hold so many tokens together, yields and takes."""
        drafting, lengths = self._drafting, self.lengths(batch, context_tokens)
        proposed = sum(lengths)
        seconds = round_time_s(
            max(lengths),
            verify_s=self._step_s(batch + proposed, context_tokens),
            draft_token_s=drafting.token_s(batch),
            rtt_s=drafting.rtt_s,
            overlap_s=drafting.overlap_s,
        )
        tokens = sum(expected_tokens(drafting.acceptance, length) for length in lengths) / batch
        return Round(tokens, seconds, proposed)

    def lengths(self, batch: int, context_tokens: float) -> tuple[int, ...]:
        """Proposals of each sequence; none where that is faster."""
        drafting = self._drafting
        if drafting.fixed is not None:
            return (drafting.fixed,) * batch
        octave = round(CONTEXTS * math.log2(context_tokens + 1.0))
        found = self._lengths.get((batch, octave))
        if found is None:
            one = Candidate(
                (drafting.acceptance,) * drafting.most, drafting.token_s(batch), drafting.rtt_s - drafting.overlap_s
            )
            held = 2.0 ** (octave / CONTEXTS)
            chosen = allot(
                [one] * batch, lambda rows: self._step_s(rows, held),
                plain_rows=batch, most_rows=batch * (1 + drafting.most), on=True,
            )  # fmt: skip
            found = self._lengths[batch, octave] = chosen.lengths
        return found
