"""What the running sequences of one vLLM core are proposed, step for step. Pure: no vLLM in it.

vLLM verifies by rejection sampling, a proposal being a point mass: greedy answers are the ones without, drawn ones have
the target's distribution. The draws themselves depend on what was proposed, so a sequence with a seed is left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.speculation.evidence import TextKind
from workers.speculation.speculator import Speculation, Speculator


@dataclass(frozen=True, slots=True)
class Room:
    """Of the next step. ``plain``: tokens it computes anyway; ``most``: it can compute; ``each``: proposals of one
    sequence at most; ``context``: tokens that prompt and answer may have.
    """

    plain: int
    most: int
    each: int
    context: int


@dataclass(slots=True, kw_only=True)
class Speaking:
    """A sequence that answers. ``tokens`` grows: prompt and answer so far."""

    key: str
    owner: str
    tokens: Sequence[int]
    prompt_tokens: int
    budget: int  # tokens of the answer at most
    kind: TextKind = TextKind.GREEDY
    alone: bool = False  # it is never proposed anything
    fitting: Callable[[Sequence[int]], int] | None = None  # how many of some tokens its grammar lets come next
    over: Callable[[], bool]
    speculation: Speculation | None = None
    known: int = 0  # tokens that were judged


@dataclass(slots=True)
class BatchDrafts:
    """All sequences of one core."""

    speculator: Speculator
    _speaking: dict[str, Speaking] = field(default_factory=dict)

    def add(self, one: Speaking) -> None:
        """It has said its first token, or went on after it was set aside. Known ones stay as they are."""
        if one.key in self._speaking:
            return
        self._speaking[one.key] = one
        one.known = len(one.tokens)
        if not one.alone:
            one.speculation = self.speculator.begin(one.tokens, one.owner, one.key, one.kind)
            one.speculation.fitting = one.fitting

    def judge(self, scheduled: Callable[[str], Sequence[int]], step: tuple[int, float] | None) -> None:
        """A step is over. ``scheduled``: what of a sequence's proposals it verified; ``step``: rows and seconds, where
        it read no prompt.
        """
        for one in list(self._speaking.values()):
            self._judge(one, tuple(scheduled(one.key)))
            if one.over():
                del self._speaking[one.key]
                if one.speculation is not None:
                    self.speculator.end(one.owner, one.tokens[one.prompt_tokens :], one.key)
        if step is not None:
            self.speculator.observe(*step)

    def _judge(self, one: Speaking, draft: tuple[int, ...]) -> None:
        said = one.tokens[one.known :]
        one.known += len(said)
        if one.speculation is None or not said:
            return
        accepted = 0
        while accepted < min(len(draft), len(said)) and draft[accepted] == said[accepted]:
            accepted += 1
        if draft:
            self.speculator.accepted(accepted, drafted=one.speculation.drafted)
        one.speculation.judge(said)

    def propose(self, keys: Sequence[str], room: Room) -> list[list[int]]:
        """For each of the sequences that the next step goes on with; unknown ones are proposed nothing."""
        running = [self._speaking.get(key) for key in keys]
        self.speculator.allot(
            [None if one is None else one.speculation for one in running],
            [0 if one is None else self._limit(one, room) for one in running],
            plain_rows=room.plain,
            most_rows=room.most,
        )
        return [[] if one is None or one.speculation is None else list(one.speculation.draft) for one in running]

    @staticmethod
    def _limit(one: Speaking, room: Room) -> int:
        """The last token of a budget, or of the context, is the target's own."""
        said = len(one.tokens) - one.prompt_tokens
        return max(0, min(room.each, one.budget - said - 1, room.context - len(one.tokens) - 1))
