"""Rule: what is in hand is what follows the text as the draft knows it; of older epochs nothing is taken."""

from hypothesis import given
from hypothesis import strategies as st

from workers.speculation.chain import Chain


def test_what_was_proposed_and_said_keeps_the_epoch() -> None:
    chain = Chain()
    chain.follow([1])
    assert chain.arrived(1, 1, [2, 3, 4])
    assert chain.agrees([1, 2]) == 2
    assert chain.follow([1, 2]) == [True]
    assert (chain.epoch, chain.hand) == (1, [3, 4])
    assert chain.arrived(1, 4, [5])
    assert chain.hand == [3, 4, 5]


def test_another_token_ends_the_epoch_and_what_arrives_of_it_is_dropped() -> None:
    chain = Chain()
    chain.follow([1])
    chain.arrived(1, 1, [2, 3])
    assert chain.agrees([1, 9]) == 0
    assert chain.follow([1, 9]) == [False]
    assert chain.epoch == 2
    assert not chain.arrived(1, 3, [4])
    assert not chain.hand


def test_a_token_that_nobody_proposed_ends_the_epoch_too() -> None:
    """Nobody knows what the draft went on with."""
    chain = Chain()
    chain.follow([1])
    chain.arrived(1, 1, [2])
    assert chain.follow([1, 2, 3]) == [True]
    assert (chain.epoch, chain.hand) == (2, [])


def test_a_gap_is_not_filled() -> None:
    chain = Chain()
    chain.follow([1])
    assert not chain.arrived(1, 2, [3])


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=4), st.integers(0, 3), st.integers(0, 6)), max_size=20))
def test_proposals_in_hand_always_begin_behind_the_text(steps: list[tuple[list[int], int, int]]) -> None:
    """Whatever arrives, in whatever epoch and from whatever position."""
    chain, text = Chain(), [0]
    chain.follow(text)
    for arriving, older, position in steps:
        before = list(chain.hand)
        taken = chain.arrived(chain.epoch - older, position, arriving)
        assert chain.hand == (before + arriving if taken else before)
        assert not taken or (older == 0 and position == len(text) + len(before))
        text.append(chain.hand[0] if chain.hand and position % 2 else 7)
        expected = chain.hand[1:] if chain.hand and chain.hand[0] == text[-1] else []
        chain.follow(text)
        assert chain.hand == expected
        assert chain.told == len(text)
