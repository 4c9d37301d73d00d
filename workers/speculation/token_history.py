"""Proposals without a model: what followed the last time these tokens were said. Pure.

Rewriting a file with one change, JSON from a table, quotations, code: much of an answer was said before, in the prompt
or in the answer itself. The text is indexed by groups of three tokens; of the places where the last three stood
before, the one that agrees furthest back is taken, and what followed there is proposed. The longer the agreement, the
likelier the proposal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GROUP = 3
"""Tokens that must agree before anything is proposed."""

PLACES = 8
"""Latest places kept for each group."""

LONGEST_MATCH = 64
"""Tokens of agreement that are told apart."""

MAX_TOKENS = 65_536
"""Of one history; about 200 bytes each. What is older is forgotten when twice as much has come together."""

SEPARATOR = -1
"""Between two texts: no token, so nothing agrees across it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens that may follow, and how many tokens before them agree with where they are from."""

    tokens: tuple[int, ...] = ()
    match: int = 0


NOTHING = Proposal()


class TokenHistory:
    """Tokens in order of being said, searchable by how the text goes on.

    >>> said = TokenHistory([1, 2, 3, 4, 5, 9, 1, 2, 3])
    >>> said.propose(said.tokens, 3)
    Proposal(tokens=(4, 5, 9), match=3)
    """

    def __init__(self, tokens: Sequence[int] = (), *, most: int = MAX_TOKENS) -> None:
        self.tokens: list[int] = []
        self._most = most
        self._places: dict[tuple[int, ...], list[int]] = {}  # group -> ends, the latest last
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens were said."""
        if len(self.tokens) + len(tokens) > 2 * self._most:
            kept = [*self.tokens, *tokens][-self._most :]
            self.tokens, self._places, tokens = [], {}, kept
        said = self.tokens
        for token in tokens:
            said.append(token)
            end = len(said)
            if end >= GROUP:
                places = self._places.setdefault(tuple(said[end - GROUP :]), [])
                places.append(end)
                if len(places) > PLACES + 1:  # the end of the text itself is one
                    del places[0]

    def propose(self, context: Sequence[int], most: int) -> Proposal:
        """At most ``most`` tokens that may follow ``context``, this history's own tokens or another text."""
        if most <= 0 or len(context) < GROUP:
            return NOTHING
        best, match = 0, 0
        own = context is self.tokens
        for end in reversed(self._places.get(tuple(context[-GROUP:]), ())):
            if own and end == len(context):
                continue
            agreed = self._agreement(context, end)
            if agreed > match and end < len(self.tokens) and self.tokens[end] != SEPARATOR:
                best, match = end, agreed
                if match == LONGEST_MATCH:
                    break
        return Proposal(self._following(best, most), match) if match else NOTHING

    def _agreement(self, context: Sequence[int], end: int) -> int:
        said, last = self.tokens, len(context)
        most = min(end, last, LONGEST_MATCH)
        agreed = 0
        while agreed < most and said[end - 1 - agreed] == context[last - 1 - agreed] != SEPARATOR:
            agreed += 1
        return agreed

    def _following(self, start: int, most: int) -> tuple[int, ...]:
        """What stands there; beyond the end the text is taken to go on as it did since: 1 2 3 1 2 3 goes on with 1."""
        said, end = self.tokens, len(self.tokens)
        taken: list[int] = []
        while len(taken) < most:
            at = start + len(taken)
            token = said[at] if at < end else taken[at - end]
            if token == SEPARATOR:
                break
            taken.append(token)
        return tuple(taken)
