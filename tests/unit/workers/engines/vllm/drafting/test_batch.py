"""Rule: each running sequence is proposed what its own text or the draft promises, within its budget and the step's
room; who has a seed is left alone, and what the target said judges what was proposed.
"""

from dataclasses import dataclass, field

import pytest

from workers.engines.vllm.drafting.batch import BatchDrafts, Room, Speaking
from workers.speculation.speculator import Speculator

FLAT = [(1, 0.010), (64, 0.011)]
STEEP = [(1, 0.010), (64, 0.640)]
ROUND = [*range(10, 20)]
ROOM = Room(plain=1, most=64, each=4, context=1000)


@dataclass
class Answer:
    """One that says the same ten tokens over and over."""

    key: str
    tokens: list[int] = field(default_factory=lambda: ROUND * 3)
    ended: bool = False

    def speaking(self, *, budget: int = 100, alone: bool = False, owner: str = "", grammar: int = 99) -> Speaking:
        return Speaking(
            key=self.key, owner=owner, tokens=self.tokens, prompt_tokens=len(ROUND), budget=budget, alone=alone,
            fitting=lambda tokens: min(len(tokens), grammar), over=lambda: self.ended,
        )  # fmt: skip

    def says(self, count: int) -> None:
        self.tokens += [ROUND[(len(self.tokens) + at) % len(ROUND)] for at in range(count)]


def made(curve: list[tuple[int, float]] = FLAT) -> BatchDrafts:
    return BatchDrafts(Speculator(measured=curve))


def step(drafts: BatchDrafts, answer: Answer, room: Room = ROOM, *, row_s: float = 0.0) -> list[int]:
    """The next step verifies what is proposed, all of it right; ``row_s``: seconds for each row."""
    (proposed,) = drafts.propose([answer.key], room)
    answer.says(1 + len(proposed))
    step = (1 + len(proposed), row_s * (1 + len(proposed))) if row_s else None
    drafts.judge(lambda key: proposed, step)
    return proposed


def test_a_text_that_repeats_itself_is_proposed_and_counted() -> None:
    """As many as the round has room for; the counts are of what was verified."""
    drafts, answer = made(), Answer("a")
    drafts.add(answer.speaking(budget=1000))
    proposed = [step(drafts, answer) for _ in range(20)]
    assert proposed[-1]
    assert max(map(len, proposed)) == 4
    counts = drafts.speculator.counts
    assert counts.accepted == counts.proposed == sum(map(len, proposed))


def test_next_to_nothing_is_proposed_where_verifying_costs_as_much_as_it_yields() -> None:
    """The governor has the word here as elsewhere: it looks now and then, and leaves it."""
    drafts, answer = made(STEEP), Answer("a")
    drafts.add(answer.speaking(budget=1000))
    tried = [step(drafts, answer, row_s=0.010) for _ in range(100)]
    assert sum(map(bool, tried)) <= 10


def test_a_sequence_with_a_seed_is_left_alone() -> None:
    """Its draws would depend on what was proposed, and that on the time of day."""
    drafts, answer = made(), Answer("a")
    drafts.add(answer.speaking(alone=True))
    assert not any(step(drafts, answer) for _ in range(20))
    assert drafts.propose(["never heard of"], ROOM) == [[]]


@pytest.mark.parametrize(
    ("budget", "context", "grammar", "most"),
    [(42, 1000, 99, 1), (41, 1000, 99, 0), (100, 55, 99, 4), (100, 1000, 2, 2)],
)
def test_a_budget_a_context_and_a_grammar_bound_what_is_proposed(
    budget: int, context: int, grammar: int, most: int
) -> None:
    """The last token of a budget, or of the context, is the target's own. (Forty tokens were said.)"""
    drafts, answer = made(), Answer("a", ROUND * 3)
    drafts.add(answer.speaking(budget=1000))
    while len(answer.tokens) < 50:
        step(drafts, answer, Room(1, 64, min(4, 50 - len(answer.tokens) - 1), 1000))
    twin = Answer("b", [*answer.tokens])
    drafts.add(twin.speaking(budget=budget, grammar=grammar))
    (proposed,) = drafts.propose(["b"], Room(1, 64, 4, context))
    assert len(proposed) == most


def test_what_the_target_says_otherwise_is_not_accepted_and_ends_the_proposals() -> None:
    """It learns from each: a text that stops repeating itself is soon left alone."""
    drafts, answer = made(), Answer("a")
    drafts.add(answer.speaking(budget=1000))
    for _ in range(10):
        step(drafts, answer)
    before = drafts.speculator.counts.accepted
    (proposed,) = drafts.propose(["a"], ROOM)
    answer.tokens += [proposed[0], 999]
    drafts.judge(lambda key: proposed, (1 + len(proposed), 0.010))
    assert drafts.speculator.counts.accepted == before + 1


def test_one_that_ended_is_forgotten_and_proposed_to_its_owner_alone() -> None:
    """What was answered to somebody else is not looked at."""
    drafts, answer = made(), Answer("a")
    drafts.add(answer.speaking(owner="me", budget=1000))
    for _ in range(20):
        step(drafts, answer)
    answer.ended = True
    drafts.judge(lambda key: (), None)
    for key, owner in (("mine", "me"), ("theirs", "you")):
        begun = Answer(key, [1, 2, 3, *ROUND])
        drafts.add(begun.speaking(owner=owner, budget=1000))
    mine, theirs = drafts.propose(["mine", "theirs"], Room(2, 64, 4, 1000))
    assert mine
    assert not theirs
