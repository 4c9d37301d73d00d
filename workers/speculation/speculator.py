"""Speculation of one model's running sequences: look up in the text, ask a draft model, allot, judge. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.speculation.draft_use import Asked, DraftUse
from workers.speculation.drafter import Ask
from workers.speculation.evidence import Evidence, TextKind
from workers.speculation.governor import Allotment, Candidate, Governor
from workers.speculation.recent_outputs import RecentOutputs
from workers.speculation.token_history import NOTHING, Proposal, TokenHistory
from workers.speculation.verify_curve import VerifyCurve

LONGEST = 32
"""Tokens proposed at most in one round."""

CPU_SHAPE = ((1, 1.0), (2, 2.5), (4, 3.1), (8, 4.4), (16, 6.8), (32, 12.2))
"""A step of so many rows against one of one row, on a processor (llama.cpp, 135M in Q8_0, one server core, 2026)."""

GPU_SHAPE = ((1, 1.0), (2, 1.15), (4, 1.5), (8, 2.2), (16, 2.2), (32, 2.7), (64, 3.9))
"""The same where the weights' way through memory is what costs (llama.cpp, 8B in Q4_K_M, one H100)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Of one step: computed anyway, and in all at most."""

    plain: int
    most: int


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
    key: str = ""
    proposal: Proposal = NOTHING  # of its text
    draft: tuple[int, ...] = ()  # what the next step verifies
    drafted: bool = False  # that is a draft model's
    fitting: Callable[[Sequence[int]], int] | None = None  # how many of some tokens its grammar lets come next

    def cut(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """What of a proposal the answer's grammar does not forbid: the rest could not be accepted."""
        return tokens if self.fitting is None or not tokens else tokens[: self.fitting(tokens)]

    def propose(self, most: int) -> None:
        """At most ``most`` tokens, from wherever the text agrees furthest back."""
        context = self.history.tokens
        own, other = self.history.propose(context, most), self.recent.propose(context, most)
        found = other if other.match > own.match else own
        self.proposal = Proposal(self.cut(found.tokens), found.match)

    def judge(self, said: Sequence[int]) -> None:
        """The step's tokens are there: they tell how good the proposal was, verified or not."""
        for done, (proposed, token) in enumerate(zip(self.proposal.tokens, said, strict=False)):
            self.evidence.tell(self.proposal.match + done, accepted=proposed == token)
            if proposed != token:
                break
        self.history.extend(said)
        self.proposal, self.draft, self.drafted = NOTHING, (), False


@dataclass(slots=True)
class Speculator:
    """All sequences of one model. ``shape``: what a step costs by its rows, before any was measured; ``measured``:
    points of the curve, rows and seconds, where there are some.
    """

    shape: Sequence[tuple[int, float]] = CPU_SHAPE
    measured: Sequence[tuple[int, float]] = ()
    counts: Counts = field(default_factory=Counts)
    drafts: DraftUse | None = None  # a drafter with a model
    _evidence: dict[TextKind, Evidence] = field(default_factory=lambda: {kind: Evidence() for kind in TextKind})
    _recent: RecentOutputs = field(default_factory=RecentOutputs)
    _curve: VerifyCurve | None = None
    _governor: Governor = field(default_factory=Governor)
    _running: int = 0  # sequences of the step allotted last, which a draft model has a part in; 0: it has none
    _accepted: int = 0  # in that step
    _waited_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.measured) > 1:
            self._curve = VerifyCurve(list(self.measured))

    @property
    def waited_s(self) -> float:
        """What a draft model was waited for before the step allotted last."""
        return self._waited_s

    def begin(self, tokens: Sequence[int], owner: str, key: str = "", kind: TextKind = TextKind.GREEDY) -> Speculation:
        """A sequence whose prompt, and whatever it said before, are ``tokens``; what ``owner`` was answered lately may
        be proposed to it. ``key``: its name for a drafter; ``kind``: whose acceptance it begins with.
        """
        return Speculation(TokenHistory(tokens), self._recent.of(owner), Evidence(broader=self._evidence[kind]), key)

    def end(self, owner: str, answer: Sequence[int], key: str = "") -> None:
        """A sequence has ended with that answer."""
        self._recent.keep(owner, answer)
        if self.drafts is not None:
            self.drafts.drafter.end(key)

    def allot(
        self, running: Sequence[Speculation | None], limits: Sequence[int], *, plain_rows: int, most_rows: int
    ) -> None:
        """Set every sequence's draft for the next step.

        ``limits``: the most tokens each may propose; ``plain_rows``: what the step computes anyway; ``most_rows``: the
        step has room for.
        """
        own = [self._own(one, limit) for one, limit in zip(running, limits, strict=True)]
        self._running, self._accepted, self._waited_s = 0, 0, 0.0
        if self._curve is None:  # nothing was measured: a step without proposals comes first
            return
        self._governor.begin_step()
        rows = Rows(plain_rows, most_rows)
        drafts = self.drafts if self.drafts is not None and self.drafts.looks() else None
        asked, mixed = self._consider(drafts, running, limits, own) if drafts is not None else ([], own)
        chosen = self._choose(running, own, mixed, rows)
        self._governor.chosen(chosen)
        for one, length in zip(running, chosen.lengths, strict=True):
            if one is not None and not one.drafted:
                one.draft = one.proposal.tokens[:length]
        if drafts is not None:
            self._ask(drafts, running, asked, chosen.lengths, rows)
        for one in running:
            if one is not None and one.draft:
                self.counts.rounds += 1
                self.counts.proposed += len(one.draft)

    @staticmethod
    def _own(one: Speculation | None, limit: int) -> Candidate:
        """What a sequence's own text proposes."""
        if one is None:
            return Candidate()
        one.propose(min(limit, LONGEST))
        return Candidate(one.evidence.chances(one.proposal.match, len(one.proposal.tokens)))

    def _choose(
        self,
        running: Sequence[Speculation | None],
        own: Sequence[Candidate],
        mixed: Sequence[Candidate],
        rows: Rows,
    ) -> Allotment:
        """The better of the two: the texts' own proposals alone, or with the draft model's among them."""
        by_text = self._allotted(own, rows)
        drafted = [one for one in running if one is not None and one.drafted]
        if not drafted:
            return by_text
        if self.drafts is not None and self.drafts.fixed:
            return Allotment(tuple(len(one.chances) for one in mixed), by_text.gain)
        with_drafts = self._allotted(mixed, rows)
        if with_drafts.gain > by_text.gain:
            return with_drafts
        for one in drafted:
            one.drafted = False
        return by_text

    def _allotted(self, candidates: Sequence[Candidate], rows: Rows) -> Allotment:
        assert self._curve is not None
        return self._governor.allot(candidates, self._curve, plain_rows=rows.plain, most_rows=rows.most)

    @staticmethod
    def _consider(
        drafts: DraftUse,
        running: Sequence[Speculation | None],
        limits: Sequence[int],
        own: Sequence[Candidate],
    ) -> tuple[list[Asked | None], list[Candidate]]:
        """Whom the draft model may be asked about, and the candidates with its own where it promises more."""
        drafts.begin_step()
        asked: list[Asked | None] = []
        mixed = list(own)
        for at, (one, limit) in enumerate(zip(running, limits, strict=True)):
            if one is None:
                asked.append(None)
                continue
            about = Asked(one.key, one.history.tokens, limit)
            asked.append(about)
            found, chances = drafts.candidate(about), own[at].chances
            if found is not None and found.chances and (drafts.fixed or not chances or found.chances[0] > chances[0]):
                mixed[at], one.drafted = found, True
        return asked, mixed

    def _ask(
        self,
        drafts: DraftUse,
        running: Sequence[Speculation | None],
        asked: Sequence[Asked | None],
        lengths: Sequence[int],
        rows: Rows,
    ) -> None:
        """Fetch what was chosen; let the draft model read who is new, or look now and then whether it would pay."""
        chosen = [
            (one, Ask(about.key, about.tokens, length))
            for one, about, length in zip(running, asked, lengths, strict=True)
            if one is not None and about is not None and one.drafted and length
        ]
        drafts.chosen(self.gain if chosen else 1.0)
        if chosen:
            found, self._waited_s = drafts.fetch([ask for _, ask in chosen])
            self._running = rows.plain
            for (one, _), tokens in zip(chosen, found, strict=True):
                one.draft = one.cut(tokens)
                drafts.rounds += 1
                drafts.proposed += len(one.draft)
        newcomers = drafts.newcomers(asked)
        if newcomers and (chosen or drafts.fixed or self._would_pay(drafts, asked, rows)):
            drafts.introduce(newcomers)
        elif not chosen:
            drafts.probe(asked)

    def _would_pay(self, drafts: DraftUse, asked: Sequence[Asked | None], rows: Rows) -> bool:
        """Whether anybody would be asked, had the draft model read all of them."""
        every = [(None if one is None else drafts.candidate(one, hypothetical=True)) or Candidate() for one in asked]
        return any(self._allotted(every, rows).lengths)

    @property
    def gain(self) -> float:
        """Predicted of speculating as it does: how many times faster than plain steps."""
        return self._governor.gain

    def accepted(self, count: int, *, drafted: bool = False) -> None:
        """So many of a sequence's proposed tokens were the target's own; ``drafted``: a draft model's."""
        self.counts.accepted += count
        self._accepted += count
        if drafted and self.drafts is not None:
            self.drafts.accepted += count

    def observe(self, rows: int, seconds: float) -> None:
        """A step without prompt tokens computed so many rows."""
        if self._curve is None:
            first = VerifyCurve(list(self.shape)).seconds(rows)
            self._curve = VerifyCurve([(at, seconds * relative / first) for at, relative in self.shape], steps=0.0)
        self._curve.observe(rows, seconds)
        if self.drafts is not None and self._running:
            faster = (self._running + self._accepted) / self._running
            self.drafts.step_over(faster * self._curve.seconds(self._running) / (seconds + self._waited_s))
