"""Quality as ``router.capacity.quality`` tabulates it, with its answers kept: filters ask the same few questions."""

import re
from functools import lru_cache
from typing import Any


class TabulatedQuality:
    """At most 4096 answers of each kind are kept."""

    def __init__(self) -> None:
        try:
            from router.capacity import quality  # type: ignore[attr-defined,unused-ignore]

            table: Any = quality
        except ImportError:
            table = _ByBits()
        self._at_least = lru_cache(maxsize=4096)(table.at_least)
        self._loss = lru_cache(maxsize=4096)(table.loss)

    def at_least(self, quantization: str, floor: str) -> bool:
        """``quantization`` is as good as ``floor`` or better; an unknown one never is."""
        return bool(self._at_least(quantization, floor))

    def loss(self, parameters: float, quantization: str) -> float:
        """Relative loss of perplexity against full precision."""
        return float(self._loss(parameters, quantization))


class _ByBits:
    """By the digits in the name, until the table lands."""

    def at_least(self, quantization: str, floor: str) -> bool:
        return _bits(quantization) >= _bits(floor) > 0

    def loss(self, parameters: float, quantization: str) -> float:
        del parameters
        return float(2.0 ** (-_bits(quantization)))


def _bits(name: str) -> float:
    found = re.search(r"\d+", name)
    return float(found.group()) if found else {"awq": 4.0, "gptq": 4.0, "nf4": 4.0}.get(name, 0.0)
