"""What all answers under way take of the router's memory together, and who must give way when that is too much.

A worker can send faster than a client reads, and an answer is kept whole for as long as it may have to go on at another
worker. Each has its own bound; this is the bound of all. At it, the answer that holds most ends with an error: never
one that happens to come next.
"""

from collections.abc import Callable

from router.errors import TooMuchHeld

SMALL_SHARE = 256
"""An answer that holds less than such a part of all is never the one to give way: it would help nobody."""


class AnswerAccount:
    """What one answer holds, over all its attempts. ``cut`` ends it; None: nothing of it is under way just now."""

    __slots__ = ("_memory", "cut", "held")

    def __init__(self, memory: "AnswerMemory") -> None:
        self._memory = memory
        self.held = 0
        self.cut: Callable[[TooMuchHeld], None] | None = None

    def take(self, weight: int) -> None:
        """So many bytes more (or, below zero, fewer). May cut the largest answer there is, this one included."""
        self.held += weight
        self._memory.moved(weight)

    def close(self) -> None:
        """The answer is gone, with all it held. Idempotent."""
        self._memory.closed(self)
        self.cut = None


class AnswerMemory:
    """All accounts of one router replica."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._accounts: set[AnswerAccount] = set()
        self.held = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self) -> AnswerAccount:
        """An account for a new answer."""
        account = AnswerAccount(self)
        self._accounts.add(account)
        return account

    def moved(self, weight: int) -> None:
        """An account's balance changed by so much."""
        self.held += weight
        if weight > 0 and self.held > self._limit_bytes:
            self._cut_largest()

    def closed(self, account: AnswerAccount) -> None:
        """Forget an account."""
        if account in self._accounts:
            self._accounts.remove(account)
            self.held -= account.held

    def _cut_largest(self) -> None:
        least = self._limit_bytes // SMALL_SHARE
        cuttable = [one for one in self._accounts if one.cut is not None and one.held >= least]
        if not cuttable:
            return
        largest = max(cuttable, key=lambda one: one.held)
        cut, largest.cut = largest.cut, None
        if cut is not None:
            cut(TooMuchHeld(self._limit_bytes, largest.held))
