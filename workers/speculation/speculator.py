"""Speculation of one model's running sequences without a draft model: look up, allot, judge. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.speculation.evidence import Evidence
from workers.speculation.governor import Candidate, allot
from workers.speculation.recent_outputs import RecentOutputs
from workers.speculation.token_history import NOTHING, Proposal, TokenHistory
from workers.speculation.verify_curve import VerifyCurve

LONGEST = 32
"""Tokens proposed at most in one round."""

CPU_SHAPE = ((1, 1.0), (2, 2.5), (4, 3.1), (8, 4.4), (16, 6.8), (32, 12.2))
"""A step of so many rows against one of one row, on a processor (llama.cpp, 135M in Q8_0, one server core, 2026)."""

GPU_SHAPE = ((1, 1.0), (2, 1.15), (4, 1.5), (8, 2.2), (16, 2.2), (32, 2.7), (64, 3.9))
"""The same where the weights' way through memory is what costs (llama.cpp, 8B in Q4_K_M, one H100)."""


@dataclass(slots=True)
class Counts:
    """What speculation did since the model was loaded."""

    rounds: int = 0  # of one sequence each
    proposed: int = 0  # tokens verified
    accepted: int = 0  # of those


@dataclass(slots=True)
class Speculation:
    """One sequence's: what it said, what it may say next, and what of that is verified in this step."""

    history: TokenHistory  # its prompt and answer
    recent: TokenHistory  # other answers of the same owner
    evidence: Evidence
    proposal: Proposal = NOTHING
    draft: tuple[int, ...] = ()

    def propose(self, most: int) -> None:
        """At most ``most`` tokens, from wherever the text agrees furthest back."""
        context = self.history.tokens
        own, other = self.history.propose(context, most), self.recent.propose(context, most)
        self.proposal = other if other.match > own.match else own

    def judge(self, said: Sequence[int]) -> None:
        """The step's tokens are there: they tell how good the proposal was, verified or not."""
        for done, (proposed, token) in enumerate(zip(self.proposal.tokens, said, strict=False)):
            self.evidence.tell(self.proposal.match + done, accepted=proposed == token)
            if proposed != token:
                break
        self.history.extend(said)
        self.proposal, self.draft = NOTHING, ()


@dataclass(slots=True)
class Speculator:
    """All sequences of one model. ``shape``: what a step costs by its rows, before any was measured; ``measured``:
    points of the curve, rows and seconds, where there are some.
    """

    shape: Sequence[tuple[int, float]] = CPU_SHAPE
    measured: Sequence[tuple[int, float]] = ()
    counts: Counts = field(default_factory=Counts)
    gain: float = 1.0  # predicted of the step allotted last
    _evidence: Evidence = field(default_factory=Evidence)
    _recent: RecentOutputs = field(default_factory=RecentOutputs)
    _curve: VerifyCurve | None = None
    _on: bool = False

    def __post_init__(self) -> None:
        if len(self.measured) > 1:
            self._curve = VerifyCurve(list(self.measured))

    def begin(self, tokens: Sequence[int], owner: str) -> Speculation:
        """A sequence whose prompt, and whatever it said before, are ``tokens``; what ``owner`` was answered lately may
        be proposed to it.
        """
        return Speculation(TokenHistory(tokens), self._recent.of(owner), Evidence(broader=self._evidence))

    def end(self, owner: str, answer: Sequence[int]) -> None:
        """A sequence has ended with that answer."""
        self._recent.keep(owner, answer)

    def allot(
        self, running: Sequence[Speculation | None], limits: Sequence[int], *, plain_rows: int, most_rows: int
    ) -> None:
        """Set every sequence's draft for the next step.

        ``limits``: the most tokens each may propose; ``plain_rows``: what the step computes anyway; ``most_rows``: the
        step has room for.
        """
        candidates = []
        for one, limit in zip(running, limits, strict=True):
            if one is None:
                candidates.append(Candidate())
                continue
            one.propose(min(limit, LONGEST))
            candidates.append(Candidate(one.evidence.chances(one.proposal.match, len(one.proposal.tokens))))
        if self._curve is None:  # nothing was measured: a step without proposals comes first
            return
        chosen = allot(
            candidates, self._curve.seconds, plain_rows=plain_rows, most_rows=most_rows, on=self._on
        )  # fmt: skip
        self._on, self.gain = any(chosen.lengths), chosen.gain
        for one, length in zip(running, chosen.lengths, strict=True):
            if one is not None and length:
                one.draft = one.proposal.tokens[:length]
                self.counts.rounds += 1
                self.counts.proposed += length

    def accepted(self, count: int) -> None:
        """So many of a sequence's proposed tokens were the target's own."""
        self.counts.accepted += count

    def observe(self, rows: int, seconds: float) -> None:
        """A step without prompt tokens computed so many rows."""
        if self._curve is None:
            first = VerifyCurve(list(self.shape)).seconds(rows)
            self._curve = VerifyCurve([(at, seconds * relative / first) for at, relative in self.shape])
        self._curve.observe(rows, seconds)
