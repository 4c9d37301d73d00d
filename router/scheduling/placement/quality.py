"""Quality as the contract tabulates it, with its answers kept: filters ask the same few questions."""

from functools import lru_cache
from typing import Protocol

from protos.contract.models import quality


class Quality(Protocol):
    """What filters and cost ask about quantizations; ``protos.contract.models.quality`` answers."""

    def at_least(self, quantization: str, floor: str) -> bool:
        """``quantization`` is as good as ``floor`` or better; an unknown one never is."""
        ...

    def loss(self, parameters: float, quantization: str) -> float:
        """Relative loss of perplexity against full precision; 0.01 is 1%."""
        ...


class TabulatedQuality:
    """At most 4096 answers of each kind are kept."""

    def __init__(self) -> None:
        self._at_least = lru_cache(maxsize=4096)(quality.at_least)
        self._loss = lru_cache(maxsize=4096)(quality.loss)

    def at_least(self, quantization: str, floor: str) -> bool:
        """``quantization`` is as good as ``floor`` or better; an unknown one never is."""
        return bool(self._at_least(quantization, floor))

    def loss(self, parameters: float, quantization: str) -> float:
        """Relative loss of perplexity against full precision."""
        return float(self._loss(parameters, quantization))
