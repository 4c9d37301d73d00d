"""What a round of speculation yields, and when it pays: the closed forms. Pure.

A round verifies k proposed tokens in one step of the target and yields the accepted ones and one more of the target's
own (Leviathan et al., arXiv 2211.17192). Proposals are verified by drawing: the target draws from its own distribution
at every row, with its own random stream, and a proposal is accepted where it equals what was drawn. For a proposal
that is a point mass this accepts as often as rejection sampling does, and what comes out is not only of the target's
distribution: it is the very answer that the target would have given alone with the same seed, penalties and grammar.
"""

from collections.abc import Callable, Sequence


def accept(proposal: Sequence[int], draw: Callable[[int], int | None]) -> int:
    """How many of the proposed tokens the target takes.

    ``draw(row)`` makes the target say its token after the first ``row`` proposals, which is the answer's next token;
    None: the answer ended there. It is called for as many rows as the round yields tokens, in order.

    >>> said = iter([5, 6, 9])
    >>> accept([5, 6, 7, 8], lambda row: next(said))
    2
    """
    for row, proposed in enumerate(proposal):
        if draw(row) != proposed:
            return row
    draw(len(proposal))
    return len(proposal)


def expected_tokens(acceptance: float, length: int) -> float:
    """Tokens a round of ``length`` proposals yields, each accepted with that chance once those before it were.

    >>> round(expected_tokens(0.7, 3), 3)
    2.533
    """
    if acceptance >= 1.0:
        return length + 1.0
    return float((1.0 - acceptance ** (length + 1)) / (1.0 - acceptance))


def expected_tokens_of(chances: Sequence[float]) -> float:
    """The same where every proposal has a chance of its own, given that those before it were accepted.

    >>> round(expected_tokens_of([0.7, 0.7, 0.7]), 3)
    2.533
    """
    total = reached = 1.0
    for chance in chances:
        reached *= chance
        total += reached
    return total


def round_time_s(
    length: int, *, verify_s: float, draft_token_s: float = 0.0, rtt_s: float = 0.0, overlap_s: float = 0.0
) -> float:
    """Seconds of one round: the step that verifies ``length`` proposals, and the wait for them that nothing hides."""
    if length == 0:
        return verify_s
    return verify_s + max(0.0, length * draft_token_s + rtt_s - overlap_s)


def break_even_rtt_s(acceptance: float, length: int, *, plain_s: float, verify_s: float, draft_token_s: float) -> float:
    """The round trip beyond which a draft at a distance, waited for, is slower than no draft; negative: it never pays.

    A 1B draft of 4.6 ms a token at 0.7, three tokens, a 70B target of 52 ms a step:

    >>> round(break_even_rtt_s(0.7, 3, plain_s=0.052, verify_s=0.052, draft_token_s=0.0046), 3)
    0.066
    """
    return expected_tokens(acceptance, length) * plain_s - verify_s - length * draft_token_s
