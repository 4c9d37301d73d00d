"""What every drafter with a model is to an engine, wherever it runs: in the target's process or elsewhere. Pure.

The engine calls it from the one thread that steps the model, for all sequences of a step at once. Whatever goes wrong
with a drafter costs speed alone: it answers with nothing, and ``Costs.paused`` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SLACK = 1.5
SLACK_S = 0.002
"""A round is waited for as long as usual and so much longer."""

LONGEST_PATIENCE_S = 1.0
"""But never longer than that."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One sequence: go on behind ``tokens`` (prompt and answer so far) by ``length``. 0: the text is told, nothing is
    asked; what the drafter has in hand for it is still given.
    """

    key: str  # the same for as long as the sequence runs
    tokens: Sequence[int]
    length: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What asking costs beside the target's step, as measured lately."""

    token_s: float = 0.0  # of each proposal
    wait_s: float = 0.0  # of a whole round: the round trip's 95th percentile
    paused: str = ""  # why it is not worth asking now: it is late, away, or proposed nonsense

    def patience_s(self, length: int) -> float:
        """How long a round of ``length`` is waited for."""
        return min(SLACK * (self.wait_s + length * self.token_s) + SLACK_S, LONGEST_PATIENCE_S)


class Drafter(Protocol):
    """Proposes tokens for the sequences of one target model."""

    @property
    def name(self) -> str:
        """For people: which model, where."""
        ...

    @property
    def costs(self) -> Costs:
        """What asking costs now."""
        ...

    def answered(self, key: str) -> bool:
        """Whether it has read this sequence and keeps up: before that a question may take as long as its prompt is."""
        ...

    def chances(self, key: str, length: int) -> tuple[float, ...]:
        """Of each of ``length`` proposals being accepted, given those before it; fewer where it is not worth it."""
        ...

    def ready(self, key: str, tokens: Sequence[int]) -> int:
        """How many proposals behind ``tokens`` are in hand already, made while the target was verifying."""
        ...

    def propose(self, asks: Sequence[Ask], wait_s: float) -> list[tuple[int, ...]]:
        """Proposals for each, at most as many as asked for; what is not there within ``wait_s`` is empty, and is never
        waited for again. With 0 nothing is waited for: what arrives later is judged by what the target says meanwhile.
        """
        ...

    def end(self, key: str) -> None:
        """The sequence is over."""
        ...

    def close(self) -> None:
        """Nothing is asked any more. Idempotent."""
        ...
