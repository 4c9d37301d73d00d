"""Rule: answers propose to later answers of the same owner alone, and memory is bounded."""

from workers.speculation.evidence import Evidence, TextKind
from workers.speculation.recent_outputs import MAX_OWNERS, MAX_TOKENS, RecentOutputs
from workers.speculation.speculator import Speculator
from workers.speculation.token_history import TokenHistory


def test_nobody_is_proposed_what_others_were_answered() -> None:
    """Whatever the owners are called, the empty name among them."""
    recent = RecentOutputs()
    owners = ["", "a", "b"]
    for number, owner in enumerate(owners):
        recent.keep(owner, [1, 2, 3, 10 + number])
    for number, owner in enumerate(owners):
        assert recent.of(owner).propose([1, 2, 3], 4).tokens == (10 + number,)
    assert recent.of("c").propose([1, 2, 3], 4).tokens == ()


def test_owners_and_tokens_are_bounded() -> None:
    """Who asked longest ago is forgotten first."""
    recent = RecentOutputs()
    for number in range(MAX_OWNERS):
        recent.keep(f"o{number}", [1, 2, 3, number])
    recent.keep("o0", [])
    recent.of("o0")
    recent.keep("newcomer", range(3 * MAX_TOKENS))
    assert recent.of("o0").tokens
    assert not recent.of("o1").tokens
    for _ in range(5):
        recent.keep("newcomer", range(MAX_TOKENS))
    assert len(recent.of("newcomer").tokens) <= 2 * MAX_TOKENS


def test_a_second_answer_is_proposed_from_the_first() -> None:
    """Of the two histories the one that agrees further back proposes."""
    speculator = Speculator(measured=[(1, 1.0), (16, 1.0)])
    speculator.end("a", [5, 6, 7, 8, 9, 10, 11, 12])
    one = speculator.begin([6, 7, 8, 1, 4, 5, 6, 7, 8], "a")
    one.propose(3)
    assert one.proposal.tokens == (9, 10, 11)
    other = speculator.begin([6, 7, 8, 1, 4, 5, 6, 7, 8], "b")
    other.propose(3)
    assert other.proposal.tokens == (1, 4, 5)


def test_rounds_are_counted_and_end_where_the_target_differs() -> None:
    """The whole of a model's speculation, with a target that counts upwards."""
    speculator = Speculator(measured=[(1, 1.0), (64, 1.0)])
    one = speculator.begin([*range(30), 100, *range(6)], "")
    said, steps = list(range(6)), 0
    while len(said) < 29:
        speculator.allot([one], [29 - len(said) - 1], plain_rows=1, most_rows=64)
        draft = one.draft
        truth = list(range(len(said), len(said) + len(draft) + 1))
        speculator.accepted(len(draft))
        one.judge(truth)
        said += truth
        steps += 1
    assert said == list(range(29))
    assert steps < 12
    assert speculator.counts.accepted == speculator.counts.proposed > 10


def test_a_sequence_without_history_only_pays_its_row() -> None:
    """One that cannot speculate stands among those that do."""
    speculator = Speculator(measured=[(1, 1.0), (64, 1.0)])
    one = speculator.begin([1, 2, 3, 4, 1, 2, 3], "")
    speculator.allot([None, one], [5, 5], plain_rows=2, most_rows=64)
    assert one.draft


def test_nothing_is_drafted_before_a_step_was_measured() -> None:
    """Where loading told nothing: the first step is a plain one, and says what steps cost."""
    speculator = Speculator()
    one = speculator.begin([1, 2, 3, 4] * 20, "")
    speculator.allot([one], [8], plain_rows=1, most_rows=64)
    assert one.draft == ()
    assert one.proposal.tokens
    assert isinstance(one.evidence, Evidence)
    assert isinstance(one.history, TokenHistory)


def test_what_one_kind_of_text_accepts_is_not_expected_of_another() -> None:
    """A greedy answer that repeats itself does not make a sampled one pay for proposals that it will not take."""
    speculator = Speculator(measured=[(1, 1.0), (2, 2.5), (8, 5.0), (64, 25.0)])
    text = [*range(40), 100, *range(4)]
    for _ in range(6):
        one = speculator.begin(text, "", kind=TextKind.GREEDY)
        for token in range(4, 39):
            one.propose(8)
            one.judge([token])
    lengths = {}
    for kind in TextKind:
        one = speculator.begin([*text, *range(4, 12)], "other", kind=kind)
        speculator.allot([one], [30], plain_rows=1, most_rows=64)
        lengths[kind] = len(one.draft)
    assert lengths[TextKind.GREEDY] > 8
    assert lengths[TextKind.SAMPLED] == lengths[TextKind.STRUCTURED] == 0
