"""What a placement policy is: a pure score over the candidates, plus the little state some of them keep.

Every policy picks the candidate with the lowest score, the first of several equals. What a score takes besides the
candidates and the request (a counter, a random draw) is handed to it as ``inputs``. They are kept in the decision
record, which makes every policy replayable, the random ones too.
"""

from collections.abc import Mapping
from typing import Protocol

from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores

Inputs = Mapping[str, Floats]
"""Arrays over the candidates, or of one element."""


class Policy(Protocol):
    """One way of choosing. ``score`` is pure; ``dispatched`` and ``forget`` are where state may change."""

    @property
    def name(self) -> str:
        """As the command line lists it."""
        ...

    @property
    def whole_pool(self) -> bool:
        """A candidate's score depends on the other candidates, so a record must keep all of them."""
        ...

    def parameters(self) -> dict[str, float]:
        """What the constructor was given; the record keeps it and a replay builds the policy from it."""
        ...

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """Counters and random draws that this decision uses."""
        ...

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """Lower is better; the same arguments give the same scores."""
        ...

    def dispatched(self, candidates: Candidates, index: int, facts: RequestFacts) -> None:
        """The choice of ``candidates.keys[index]`` was carried out."""
        ...

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone."""
        ...


class Stateless:
    """What policies without counters share."""

    whole_pool = False

    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """None."""
        del candidates, facts
        return {}

    def dispatched(self, candidates: Candidates, index: int, facts: RequestFacts) -> None:
        """Nothing to count."""

    def forget(self, key: InstanceKey) -> None:
        """Nothing was kept."""
