"""What one model answered lately, by whose requests it was: an agent's next answer often repeats its last. Pure.

Nobody's text proposes anything to anybody else: what is verified fast would tell what others were answered.
"""

from collections import OrderedDict
from collections.abc import Sequence

from workers.speculation.token_history import SEPARATOR, TokenHistory

MAX_OWNERS = 16
"""Whose answers are kept; at the bound, those of who asked longest ago go."""

MAX_TOKENS = 8_192
"""Of each owner's answers; about 200 bytes each, at most twice as many."""


class RecentOutputs:
    """Histories of answers by owner, a request's cache salt.

    >>> recent = RecentOutputs()
    >>> recent.keep("a", [1, 2, 3, 4, 5])
    >>> recent.of("a").propose([9, 1, 2, 3], 8).tokens, recent.of("b").propose([9, 1, 2, 3], 8).tokens
    ((4, 5), ())
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[str, TokenHistory] = OrderedDict()

    def of(self, owner: str) -> TokenHistory:
        """What was answered to that owner, to be searched; it grows as answers end."""
        history = self._owners.get(owner)
        if history is None:
            history = self._owners[owner] = TokenHistory(most=MAX_TOKENS)
            if len(self._owners) > MAX_OWNERS:
                self._owners.popitem(last=False)
        self._owners.move_to_end(owner)
        return history

    def keep(self, owner: str, answer: Sequence[int]) -> None:
        """An answer has ended."""
        if answer:
            self.of(owner).extend([*answer[-MAX_TOKENS:], SEPARATOR])
