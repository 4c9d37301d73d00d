"""How likely proposals are accepted, learned from what was: by agreement, by kind of text and by request. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

STEPS = (3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
"""Upper ends of the classes of agreement, in tokens."""

PRIOR = (0.2, 0.3, 0.35, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""What is expected of each class before anything is known: less than is usual, so that nothing begins with a loss."""

PRIOR_WEIGHT = 4.0
"""Proposals that what is expected of a class counts for beside those that were seen."""

KEPT = 0.99
"""Of what a request showed, after each further proposal: the last hundred count."""

KEPT_OF_ALL = 0.999
"""Of what all requests of a kind showed: a step of sixty-four of them says as much as one does in a minute."""

NEARLY_GREEDY = 0.3
"""Up to this temperature the likeliest token is nearly always the one that is drawn."""

FLOOR, CEILING = 0.01, 0.99

LEAST_WORTH = 0.04
"""A proposal is cut where its next token would be reached so seldom: no machine computes a row for less."""


class TextKind(StrEnum):
    """Of an answer, as far as it is known before it begins: what one kind accepts says little of another."""

    STRUCTURED = "structured"  # kept to a grammar
    GREEDY = "greedy"
    SAMPLED = "sampled"


def kind_of(temperature: float, *, structured: bool) -> TextKind:
    """An answer's kind.

    >>> kind_of(1.0, structured=False), kind_of(0.2, structured=False)
    (<TextKind.SAMPLED: 'sampled'>, <TextKind.GREEDY: 'greedy'>)
    """
    if structured:
        return TextKind.STRUCTURED
    return TextKind.GREEDY if temperature <= NEARLY_GREEDY else TextKind.SAMPLED


def _classes() -> tuple[int, ...]:
    table, index = [], 0
    for match in range(STEPS[-1] + 1):
        index += match > STEPS[index]
        table.append(index)
    return tuple(table)


_CLASS_OF = _classes()


def class_of(match: int) -> int:
    """The class of an agreement over so many tokens."""
    return _CLASS_OF[match] if match <= STEPS[-1] else len(STEPS) - 1


@dataclass(slots=True)
class Evidence:
    """Counts of proposals tried and accepted, by class; ``broader``: what is known of its kind, for a request's own.

    >>> seen = Evidence()
    >>> before = seen.chance(10)
    >>> for _ in range(50):
    ...     seen.tell(10, accepted=True)
    >>> before < 0.6 < 0.9 < seen.chance(10)
    True
    """

    broader: "Evidence | None" = None
    _tried: list[float] = field(default_factory=lambda: [0.0] * len(STEPS))
    _accepted: list[float] = field(default_factory=lambda: [0.0] * len(STEPS))

    def tell(self, match: int, *, accepted: bool) -> None:
        """The next token of a proposal whose text agreed over ``match`` tokens was or was not the target's."""
        index = class_of(match)
        kept = KEPT_OF_ALL if self.broader is None else KEPT
        self._tried[index] = self._tried[index] * kept + 1.0
        self._accepted[index] = self._accepted[index] * kept + (1.0 if accepted else 0.0)
        if self.broader is not None:
            self.broader.tell(match, accepted=accepted)

    def by_class(self) -> list[float]:
        """Chance that the next proposed token is accepted, for each class.

        A longer agreement is at least as good a sign as a shorter one: what a class has not seen itself, it takes from
        the one below, or from its kind's experience where that is better.
        """
        expected = PRIOR if self.broader is None else self.broader.by_class()
        chances: list[float] = []
        tried_below = accepted_below = 0.0
        for tried, accepted, prior in zip(self._tried, self._accepted, expected, strict=True):
            below = accepted_below / (tried_below + PRIOR_WEIGHT)
            chance = (accepted + max(prior, below) * PRIOR_WEIGHT) / (tried + PRIOR_WEIGHT)
            chances.append(min(max(chance, FLOOR), CEILING))
            tried_below, accepted_below = tried_below + tried, accepted_below + accepted
        return chances

    def chance(self, match: int) -> float:
        """Of one token behind an agreement over ``match``."""
        return self.by_class()[class_of(match)]

    def chances(self, match: int, length: int) -> tuple[float, ...]:
        """Of each of ``length`` tokens, given that those before it were accepted: then the agreement is that longer.
        Fewer where the next would hardly ever be reached.
        """
        if length == 0:
            return ()
        by_class, reached = self.by_class(), 1.0
        chances: list[float] = []
        for done in range(length):
            chance = by_class[class_of(match + done)]
            reached *= chance
            if reached < LEAST_WORTH:
                break
            chances.append(chance)
        return tuple(chances)
