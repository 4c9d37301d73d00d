"""The hardware catalogue: what a chip's name stands for, and how to find it from what a system reports."""

import re
from functools import lru_cache

from router.capacity.chip_table import CHIPS, Chip, MemoryKind

__all__ = ["CHIPS", "Chip", "MemoryKind", "find_chip", "words_of"]

_NOISE = re.compile(r"\b(apple|nvidia|amd|geforce|radeon|instinct|graphics|gpu|generation|laptop|tesla|quadro)\b")
_GPU_CORES = re.compile(r"\b(\d{1,3})\s*-?\s*(?:gpu\s*)?(?:c|core|cores)\b")
_MEMORY = re.compile(r"\b(\d{1,4})\s*(?:gb|gib|g)\b")


@lru_cache(maxsize=1024)
def find_chip(name: str, *, cores: int = 0, memory_bytes: float = 0.0) -> Chip | None:
    """The chip a system (``NVIDIA A100-SXM4-80GB``, ``Apple M4 Max``) or a person (``m4 max 40c``) means.

    ``cores`` (GPU cores) and ``memory_bytes`` of one device choose among variants of one name; without them the
    slower variant is taken. None: not in the catalogue, which is no reason to refuse it.
    """
    text = name.lower().replace("_", " ")
    said_cores = _GPU_CORES.search(text)
    cores = cores or (int(said_cores.group(1)) if said_cores else 0)
    said_memory = _MEMORY.search(text)
    memory_gb = memory_bytes / 1e9 or (float(said_memory.group(1)) if said_memory else 0.0)
    words = f" {_words(text)} "
    named = [chip for chip in CHIPS if any(f" {_words(alias)} " in words for alias in (chip.name, *chip.aliases))]
    if not named:
        return None
    longest = max(_matched(chip, words) for chip in named)
    variants = [chip for chip in named if _matched(chip, words) == longest]
    return min(variants, key=lambda chip: _misfit(chip, cores, memory_gb))


def words_of(text: str) -> list[str]:
    """``NVIDIA GeForce RTX 4090`` and ``rtx4090`` become the same words."""
    text = _NOISE.sub(" ", text.lower().replace("_", " "))
    text = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", text)
    return re.findall(r"[a-z0-9]+", text)


def _words(text: str) -> str:
    return " ".join(words_of(text))


def _matched(chip: Chip, words: str) -> int:
    return max(len(_words(alias)) for alias in (chip.name, *chip.aliases) if f" {_words(alias)} " in words)


def _misfit(chip: Chip, cores: int, memory_gb: float) -> tuple[float, float, float]:
    wrong_cores = float(abs(chip.gpu_cores - cores)) if cores and chip.gpu_cores else 0.0
    wrong_memory = abs(chip.memory_bytes / 1e9 - memory_gb) if memory_gb and chip.memory_bytes else 0.0
    return wrong_cores, wrong_memory, chip.bandwidth_bytes_per_s
