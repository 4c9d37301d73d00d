"""Room for a worker's models: by the owner's cap and by what this machine's other workers take."""

from collections.abc import Callable
from pathlib import Path

from workers.engines.base import ModelSpec
from workers.neighbours.shares import Shares


class ModelRoom:
    """``needs``: bytes that a model will take in memory, 0 where that is not known before it is loaded. Blocks."""

    def __init__(self, shares: Shares, needs: Callable[[ModelSpec], int]) -> None:
        self._shares = shares
        self._needs = needs

    def take(self, spec: ModelSpec) -> None:
        """Before it is loaded. Raises NoRoom."""
        if needs := self._needs(spec):
            self._shares.take_memory(_label(spec), needs)

    def give_back(self, spec: ModelSpec) -> None:
        """It is not loaded, or not any more."""
        self._shares.give_back(_label(spec))


def _label(spec: ModelSpec) -> str:
    return f"{spec.name} ({Path(spec.path).name})"
