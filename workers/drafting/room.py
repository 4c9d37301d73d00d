"""What a Draft service needs of the engine that holds the draft models."""

from collections.abc import Callable, Sequence
from typing import Protocol

from protos.contract.drafts import DraftContext, DraftProposal

Answer = Callable[[list[DraftProposal]], None]
"""Takes proposals to one target; called from the model's thread, never waits."""


class DraftRoom(Protocol):
    """One draft model, for all its targets. Its methods never wait; they may be called from any thread."""

    def enter(self, target: str, answer: Answer) -> None:
        """A target's call begins."""
        ...

    def tell(self, target: str, contexts: Sequence[DraftContext]) -> None:
        """Contexts of one step of the target."""
        ...

    def leave(self, target: str) -> None:
        """Its call is over: all its sequences go."""
        ...


class NoRoom(Exception):
    """Why a call cannot be served here; one line."""


class DraftRooms(Protocol):
    """The draft models of a worker."""

    def room_for(self, model: str, quantization: str, tokenizer_fingerprint: str) -> DraftRoom:
        """The model to ask; empty names: the only one. Raises NoRoom, also where tokenizers differ."""
        ...
