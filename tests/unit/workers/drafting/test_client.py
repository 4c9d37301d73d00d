"""Rule: whatever a draft does, its target waits no longer than it said, and takes nothing that is not of its text."""

import threading
import time
from collections.abc import Sequence

import pytest

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.ids import WorkerId
from workers.drafting.client import MAX_REFUSALS, MOST_IN_HAND, RemoteDrafter
from workers.drafting.line import Heard
from workers.drafting.link import DraftLink
from workers.speculation.drafter import Ask
from workers.speculation.pace import LATE_IN_A_ROW

LINK = DraftLink(
    address="127.0.0.1:1", draft_worker_id=WorkerId("d"), own_worker_id=WorkerId("t"), tokenizer_fingerprint="f"
)
VOCABULARY = 100


class Line:
    """A line whose other end a test plays. ``answer``: what comes back at once."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.sent: list[DraftContext] = []
        self.closed = False
        self.silent = False

    def send(self, contexts: Sequence[DraftContext]) -> None:
        self.sent += contexts
        if not self.silent:
            for one in contexts:
                if one.draft_length:
                    self.say(one, tuple(range(one.position, one.position + one.draft_length)))

    def say(self, one: DraftContext, tokens: tuple[int, ...], **more: int) -> None:
        self.heard.arrived([DraftProposal(
            request_id=one.request_id, epoch=more.get("epoch", one.epoch), position=more.get("position", one.position),
            token_ids=tokens, compute_s=0.003,
        )])  # fmt: skip

    def close(self) -> None:
        self.closed = True


class Now:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = 10.0

    def __call__(self) -> float:
        return self.at


def opened(now: Now | None = None) -> tuple[RemoteDrafter, Line]:
    lines: list[Line] = []

    def dial(_link: DraftLink, heard: Heard) -> Line:
        lines.append(Line(heard))
        return lines[0]

    drafter = RemoteDrafter(LINK, VOCABULARY, dial=dial, clock=now or Now())
    assert drafter.costs.paused
    drafter.opened()
    return drafter, lines[0]


def test_a_proposal_is_what_follows_the_text() -> None:
    drafter, line = opened()
    assert drafter.propose([Ask("a", [0, 1, 2], 3)], 1.0) == [(3, 4, 5)]
    first = line.sent[0]
    assert (first.tokenizer_fingerprint, first.position, first.token_ids) == ("f", 3, (0, 1, 2))
    assert drafter.propose([Ask("a", [0, 1, 2, 3, 9], 2)], 1.0) == [(5, 6)]
    second = line.sent[1]
    assert (second.tokenizer_fingerprint, second.token_ids, second.epoch) == ("", (3, 9), first.epoch + 1)
    assert drafter.answered("a")


def test_what_was_made_ahead_is_in_hand_and_needs_no_waiting() -> None:
    drafter, line = opened()
    drafter.propose([Ask("a", [0], 2)], 1.0)
    line.say(line.sent[-1], (3, 4), position=3)
    assert drafter.ready("a", [0, 1, 2]) == 2
    line.silent = True
    assert drafter.propose([Ask("a", [0, 1, 2], 2)], 60.0) == [(3, 4)]
    assert drafter.ready("a", [0, 1, 2, 7]) == 0


def test_late_is_empty_and_late_again_and_again_is_left_alone() -> None:
    """What is outstanding is not waited for longer than was said; a question that nobody waits for finds it back."""
    now = Now()
    drafter, line = opened(now)
    drafter.propose([Ask("a", [0], 2)], 1.0)
    line.silent = True
    text = [0]
    for _ in range(LATE_IN_A_ROW):
        text.append(50)
        began = time.monotonic()
        assert drafter.propose([Ask("a", text, 2)], 0.01) == [()]
        assert time.monotonic() - began < 5.0
    assert "late" in drafter.costs.paused
    sent = len(line.sent)
    assert drafter.propose([Ask("a", text, 2)], 60.0) == [()]
    assert len(line.sent) == sent, "it is not asked"
    now.at = drafter.pace.until
    line.silent = False
    drafter.propose([Ask("a", text, 2)], 0.0)
    assert not drafter.costs.paused


@pytest.mark.parametrize(
    ("tokens", "why"),
    [((VOCABULARY,), "outside the vocabulary"), ((3, 2**31), "outside"), ((1,) * (MOST_IN_HAND + 1), "more than")],
)  # fmt: skip
def test_nonsense_is_not_taken_and_its_draft_left_alone(tokens: tuple[int, ...], why: str) -> None:
    drafter, line = opened()
    line.silent = True
    drafter.propose([Ask("a", [0], 2)], 0.0)
    line.say(line.sent[-1], tokens)
    assert why in drafter.costs.paused
    assert drafter.propose([Ask("a", [0], 2)], 60.0) == [()]


def test_other_epochs_positions_and_sequences_are_dropped() -> None:
    drafter, line = opened()
    line.silent = True
    drafter.propose([Ask("a", [0], 2)], 0.0)
    one = line.sent[-1]
    line.say(one, (1,), epoch=one.epoch + 1)
    line.say(one, (1,), epoch=max(0, one.epoch - 1))
    line.say(one, (1,), position=one.position + 1)
    drafter.arrived([DraftProposal(request_id="nobody", epoch=1, position=1, token_ids=(1,))])
    assert drafter.ready("a", [0]) == 0
    assert not drafter.costs.paused


def test_a_call_that_broke_begins_anew_with_the_whole_text() -> None:
    drafter, line = opened()
    drafter.propose([Ask("a", [0, 1], 2)], 1.0)
    drafter.broken("the draft at 127.0.0.1:1 is not reached")
    assert "not reached" in drafter.costs.paused
    assert drafter.propose([Ask("a", [0, 1, 2], 2)], 60.0) == [()]
    drafter.opened()
    assert drafter.propose([Ask("a", [0, 1, 2], 2)], 1.0) == [(3, 4)]
    assert line.sent[-1].token_ids == (0, 1, 2)


def test_who_waits_is_woken_when_the_call_breaks() -> None:
    drafter, line = opened(None)
    line.silent = True
    threading.Timer(0.05, drafter.broken, ("killed",)).start()
    assert drafter.propose([Ask("a", [0], 2)], 30.0) == [()]


def test_a_sequence_that_is_refused_goes_without_and_others_do_not() -> None:
    drafter, line = opened()
    line.silent = True
    for _ in range(MAX_REFUSALS):
        drafter.propose([Ask("a", [0], 2)], 0.0)
        drafter.arrived([DraftProposal(request_id="a", epoch=1, position=1, refusal="no room here")])
    sent = len(line.sent)
    line.silent = False
    assert drafter.propose([Ask("a", [0], 2), Ask("b", [0, 1], 2)], 1.0) == [(), (2, 3)]
    assert [one.request_id for one in line.sent[sent:]] == ["b"]


def test_a_refusal_of_the_call_says_why() -> None:
    drafter, _ = opened()
    drafter.arrived([DraftProposal(request_id="", epoch=0, position=0, refusal="the tokenizer is another one")])
    assert drafter.costs.paused == "the tokenizer is another one"


def test_the_end_of_a_sequence_is_told_and_closing_ends_the_line() -> None:
    drafter, line = opened()
    drafter.propose([Ask("a", [0], 2)], 1.0)
    drafter.end("a")
    assert line.sent[-1].draft_length == 0
    drafter.end("unknown")
    drafter.close()
    assert line.closed
    assert drafter.propose([Ask("b", [0], 2)], 60.0) == [()]


def test_acceptance_is_learned_from_proposals_that_nobody_waited_for() -> None:
    now = Now()
    drafter, _ = opened(now)
    before = drafter.chances("new", 1)[0]
    text = [0]
    for _ in range(30):
        now.at += 1.0
        drafter.propose([Ask("a", text, 3)], 0.0)
        text = [*text, len(text), len(text) + 1]
    assert drafter.chances("a", 1)[0] > 0.9
    assert drafter.chances("new", 1)[0] > before


def test_a_question_that_nobody_waits_for_is_not_asked_anew_at_every_step() -> None:
    """A draft slower than its target would begin again and again, and never come to an end."""
    now = Now()
    drafter, line = opened(now)
    line.silent = True
    for step in range(10):
        drafter.propose([Ask("a", list(range(step + 1)), 2)], 0.0)
        now.at += 0.1
    assert len(line.sent) == 2
    line.say(line.sent[-1], (line.sent[-1].position, line.sent[-1].position + 1))
    assert drafter.answered("a")
