"""Sequences of many targets in one draft model: what each said, what was proposed, what to compute next. Pure.

The model's owner asks ``plan`` for the next step's rows, computes them and tells each sequence its next token with
``said``. Sequences that somebody waits for come first; only then does anybody go on ahead.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from protos.contract.drafts import DraftContext, DraftProposal

IDLE_S = 10.0
"""A sequence that was not asked about for so long makes room for a new one."""

MOST_AHEAD = 64
"""Tokens that a draft goes on by itself, whatever it is asked."""

FEW_PENDING = 16
"""Tokens that are read beside the first proposal; more take time of their own."""

NEVER = float("inf")

Key = tuple[str, str]
"""Target and request."""


@dataclass(slots=True)
class Drafted:
    """One sequence. ``text``: told by its target; ``chain``: what was proposed behind it."""

    key: Key
    slot: int
    text: list[int]
    epoch: int
    chain: list[int] = field(default_factory=list)
    computed: int = 0  # tokens of text and chain in the KV cache
    sent: int = 0  # of the chain, in this epoch
    wanted: int = 0  # of the chain, as was asked for
    ahead: int = 0
    due: bool = False  # somebody waits
    ended: bool = False  # the model said that the answer is over
    asked_at: float = 0.0
    deadline_at: float = NEVER
    spent_s: float = 0.0  # since the question, or the last proposals

    @property
    def goal(self) -> int:
        """Length of the chain up to which it goes on."""
        return len(self.chain) if self.ended else self.wanted + self.ahead

    @property
    def pending(self) -> int:
        """Tokens that have to be computed before the next is known."""
        return len(self.text) + len(self.chain) - self.computed

    def tokens(self, start: int, count: int) -> list[int]:
        """A part of text and chain together."""
        read = self.text[start : start + count]
        behind = max(0, start - len(self.text))
        return read + self.chain[behind : behind + count - len(read)]


@dataclass(frozen=True, slots=True)
class Rows:
    """Of one sequence in the next step: from where, which tokens, and whether the last of them says the next."""

    one: Drafted
    start: int
    tokens: list[int]
    says: bool


class DraftTable:
    """``slots``: sequences there is memory for; ``context_tokens``: of each; ``vocab_size``: token ids are below."""

    def __init__(self, slots: int, context_tokens: int, vocab_size: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        self._context_tokens = context_tokens
        self._vocab_size = vocab_size
        self._table: OrderedDict[Key, Drafted] = OrderedDict()  # the one asked longest ago first
        self.cut: list[tuple[int, int]] = []  # slot, and how much of its memory still holds; for the model's owner

    def __len__(self) -> int:
        return len(self._table)

    # ------------------------------------------------------------ what targets say

    def tell(self, target: str, context: DraftContext, now: float) -> str:
        """A context arrived; the answer is why nothing comes of it, empty: all is well."""
        key = (target, context.request_id)
        if context.draft_length <= 0:
            self._forget(key)
            return ""
        one = self._table.get(key)
        known = len(one.text) if one is not None else 0
        if context.position - len(context.token_ids) != known:
            self._forget(key)
            return f"the text ends at {known} here, and this goes on at {context.position - len(context.token_ids)}"
        if any(token >= self._vocab_size for token in context.token_ids):
            self._forget(key)
            return f"this draft's vocabulary has {self._vocab_size} tokens"
        if context.position == 0:
            return "there is nothing to go on from"
        if context.position + context.draft_length >= self._context_tokens:
            self._forget(key)
            return f"the text is longer than this draft's context of {self._context_tokens} tokens"
        if one is None:
            slot = self._slot(now)
            if slot is None:
                return "no room here for one more sequence"
            one = self._table[key] = Drafted(key, slot, [], context.epoch)
        self._table.move_to_end(key)
        self._follow(one, context)
        room = self._context_tokens - 1 - context.position
        one.wanted = min(context.draft_length, MOST_AHEAD, room)
        one.ahead = min(context.ahead, MOST_AHEAD - one.wanted, room - one.wanted)
        one.due, one.asked_at, one.spent_s = True, now, 0.0
        one.deadline_at = now + context.deadline_s if context.deadline_s > 0.0 else NEVER
        return ""

    def _follow(self, one: Drafted, context: DraftContext) -> None:
        """The target's words count: what was proposed differently is taken back."""
        told = context.token_ids
        same = 0
        while same < len(told) and same < len(one.chain) and told[same] == one.chain[same]:
            same += 1
        if same == len(told):
            one.chain = one.chain[same:]
            one.ended = one.ended and bool(one.chain)
            one.sent = max(0, one.sent - same) if context.epoch == one.epoch else 0
        else:
            kept = len(one.text) + same
            if one.computed > kept:
                one.computed = kept
                self.cut.append((one.slot, kept))
            one.chain, one.sent, one.ended = [], 0, False
        one.text.extend(told)
        one.epoch = context.epoch

    def gone(self, target: str) -> None:
        """A target ended its call: all its sequences go."""
        for key in [key for key in self._table if key[0] == target]:
            self._forget(key)

    def _slot(self, now: float) -> int | None:
        if not self._free and self._table:
            oldest = next(iter(self._table.values()))
            if now - oldest.asked_at > IDLE_S:
                self._forget(oldest.key)
        return self._free.pop() if self._free else None

    def _forget(self, key: Key) -> None:
        one = self._table.pop(key, None)
        if one is not None:
            self.cut.append((one.slot, 0))
            self._free.append(one.slot)

    # ------------------------------------------------------------ what the model does

    def plan(self, budget: int, now: float) -> list[Rows]:
        """The next step's rows, at most ``budget``: of those that somebody waits for, else of those who may go on."""
        for one in self._table.values():
            if one.due and now > one.deadline_at:  # nobody waits any more
                one.due, one.wanted, one.ahead = False, len(one.chain), 0
        open_ones = [one for one in self._table.values() if len(one.chain) < one.goal]
        rows: list[Rows] = []
        first = [one for one in open_ones if one.due] or open_ones
        for one in sorted(first, key=lambda one: one.pending):  # a long text to be read holds nobody up
            count = min(one.pending, budget)
            if count <= 0:
                break
            budget -= count
            rows.append(Rows(one, one.computed, one.tokens(one.computed, count), says=count == one.pending))
        return sorted(rows, key=lambda row: row.one.slot)

    def said(self, rows: Iterable[Rows], tokens: Iterable[int], seconds: float, ends: frozenset[int]) -> None:
        """A step was computed: ``tokens`` are the next ones of those rows that say one, in order."""
        said = iter(tokens)
        for row in rows:
            one = row.one
            one.computed += len(row.tokens)
            one.spent_s += seconds
            if row.says:
                one.chain.append(next(said))
                one.ended = one.chain[-1] in ends

    def proposals(self) -> list[tuple[str, DraftProposal]]:
        """What is to be sent, and to whom: what was waited for as soon as it is whole, what goes ahead in pieces."""
        sent: list[tuple[str, DraftProposal]] = []
        for (target, request), one in self._table.items():
            answers = one.due and len(one.chain) >= min(one.wanted, one.goal)
            fresh = len(one.chain) - one.sent
            piece = not one.due and fresh > 0 and (fresh >= one.wanted or len(one.chain) >= one.goal)
            if not (answers or piece):
                continue
            one.due = False
            position = len(one.text) + one.sent
            tokens = tuple(one.chain[one.sent :])
            sent.append(
                (target, DraftProposal(
                    request_id=request, epoch=one.epoch, position=position, token_ids=tokens, compute_s=one.spent_s
                ))
            )  # fmt: skip
            one.sent, one.spent_s = len(one.chain), 0.0
        return sent

    @property
    def reads(self) -> bool:
        """Whether some text has still to be read before anything can be proposed behind it."""
        return any(one.pending > FEW_PENDING and len(one.chain) < one.goal for one in self._table.values())

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return any(len(one.chain) < one.goal for one in self._table.values())
