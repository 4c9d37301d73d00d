"""What a draft at a distance proposed for one sequence, and how far the target agrees: the target's side. Pure.

The draft goes on by itself while the target verifies. What it proposed stays in hand as long as the target says the
very same; from the first token that differs, or that nobody proposed, an epoch is over: the draft takes back what it
went on with, and whatever still arrives of an older epoch is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Chain:
    """``told``: tokens of the text that the draft knows of; ``hand``: proposals behind them.

    >>> chain = Chain()
    >>> chain.follow([1, 2, 3]), chain.epoch, chain.told
    ([], 1, 3)
    >>> chain.arrived(1, 3, [4, 5, 6]), chain.follow([1, 2, 3, 4, 5]), chain.epoch, chain.hand
    (True, [True, True], 1, [6])
    >>> chain.follow([1, 2, 3, 4, 5, 9]), chain.epoch, chain.hand, chain.arrived(1, 6, [7])
    ([False], 2, [], False)
    """

    epoch: int = 0
    told: int = 0
    hand: list[int] = field(default_factory=list)
    answered: bool = False  # something arrived, in whatever epoch: the draft has read the text

    def agrees(self, text: Sequence[int]) -> int:
        """How many proposals are in hand behind the whole ``text``, which grew since it was told."""
        grown = len(text) - self.told
        if grown > len(self.hand) or any(text[self.told + at] != self.hand[at] for at in range(grown)):
            return 0
        return len(self.hand) - grown

    def follow(self, text: Sequence[int]) -> list[bool]:
        """The text is told now. The answer judges the proposals that it tells about, up to the first wrong one."""
        grown = len(text) - self.told
        judged: list[bool] = []
        for at in range(min(grown, len(self.hand))):
            judged.append(text[self.told + at] == self.hand[at])
            if not judged[-1]:
                break
        if len(judged) == grown and all(judged):
            del self.hand[:grown]
        else:
            self.epoch += 1
            self.hand.clear()
        self.told = len(text)
        return judged

    def arrived(self, epoch: int, position: int, tokens: Sequence[int]) -> bool:
        """Proposals came; False when they are of another epoch, or do not follow what is in hand."""
        self.answered = True
        if epoch != self.epoch or position != self.told + len(self.hand):
            return False
        self.hand.extend(tokens)
        return True
