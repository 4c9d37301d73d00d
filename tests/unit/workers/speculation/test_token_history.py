"""Rule: what is proposed is what followed the longest earlier agreement, as far back as memory goes."""

from hypothesis import given
from hypothesis import strategies as st

from workers.speculation.token_history import GROUP, LONGEST_MATCH, PLACES, SEPARATOR, Proposal, TokenHistory

TEXT = st.lists(st.integers(0, 3), max_size=60)


def longest(text: list[int], context: list[int]) -> int:
    """Agreement of the best earlier place, looked for everywhere."""
    best = 0
    for end in range(GROUP, len(text)):
        agreed = 0
        while agreed < min(end, len(context), LONGEST_MATCH) and text[end - 1 - agreed] == context[-1 - agreed]:
            agreed += 1
        best = max(best, agreed)
    return best if best >= GROUP else 0


@given(text=TEXT, most=st.integers(1, 9))
def test_proposals_follow_an_earlier_agreement(text: list[int], most: int) -> None:
    """What is proposed stood after a place that agrees over ``match`` tokens; no place remembered agrees further."""
    history = TokenHistory(text)
    proposal = history.propose(history.tokens, most)
    best = longest(text, text)
    assert proposal.match <= best
    if best and len(text) <= PLACES:
        assert proposal.match == best
    if not proposal.match:
        return
    assert 1 <= len(proposal.tokens) == most
    joined = text + list(proposal.tokens)
    starts = [
        end for end in range(GROUP, len(text))
        if text[max(end - proposal.match, 0) : end] == text[len(text) - proposal.match :]
        and joined[end : end + most] == list(proposal.tokens)
    ]  # fmt: skip
    assert starts


def test_a_repetition_goes_on_as_it_did() -> None:
    """Also beyond the end of what was said."""
    history = TokenHistory([7, 1, 2, 3, 1, 2, 3])
    assert history.propose(history.tokens, 7) == Proposal(tokens=(1, 2, 3, 1, 2, 3, 1), match=3)


def test_nothing_agrees_across_two_texts() -> None:
    """A separator is no token: neither matched nor proposed."""
    history = TokenHistory([1, 2, 3, SEPARATOR, 4, 5, 6, SEPARATOR])
    assert history.propose([9, 1, 2, 3], 4) == Proposal()
    assert history.propose([2, 3, SEPARATOR], 4) == Proposal()
    assert history.propose([4, 5, 6], 4) == Proposal()
    assert history.propose([1, 2, 3, 4], 4) == Proposal()


def test_the_longest_agreement_wins_over_the_latest() -> None:
    """Three tokens that were said twice are told apart by what stood before them."""
    history = TokenHistory([8, 1, 2, 3, 5, 9, 1, 2, 3, 6])
    assert history.propose([0, 8, 1, 2, 3], 1) == Proposal(tokens=(5,), match=4)
    assert history.propose([0, 9, 1, 2, 3], 1) == Proposal(tokens=(6,), match=4)
    assert history.propose([0, 0, 1, 2, 3], 1) == Proposal(tokens=(6,), match=3)


@given(texts=st.lists(st.lists(st.integers(0, 2), max_size=30), max_size=12))
def test_memory_is_bounded_and_holds_the_latest(texts: list[list[int]]) -> None:
    """At most twice as many tokens as asked for, and always the last ones; each group knows few places."""
    history = TokenHistory(most=20)
    said: list[int] = []
    for text in texts:
        history.extend(text)
        said += text
        assert len(history.tokens) <= 40
        assert said[len(said) - min(len(said), 20) :] == history.tokens[len(history.tokens) - min(len(said), 20) :]
        assert all(len(places) <= PLACES + 1 for places in history._places.values())
