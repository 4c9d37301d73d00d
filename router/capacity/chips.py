"""The hardware catalogue: what a chip's name stands for, and how to find it from what a system reports.

A name is believed whole: a word that no entry explains (``Ti``, ``Laptop``, ``NVL``, a vGPU's profile) is another chip,
and a chip nobody knows is unknown, never its nearest relative.
"""

import re
from dataclasses import replace
from functools import lru_cache

from router.capacity.chip_table import CHIPS, Chip, MemoryKind

__all__ = ["CHIPS", "Chip", "MemoryKind", "find_chip", "nearest_chip", "unexplained", "words_of"]

_NOISE = re.compile(r"\b(apple|nvidia|amd|geforce|radeon|instinct|graphics|gpu|generation|tesla|quadro)\b")
_GPU_CORES = re.compile(r"\b(\d{1,3})\s*-?\s*(?:gpu\s*)?(?:c|core|cores)\b")
_MEMORY = re.compile(r"\b(\d{1,5}(?:\.\d)?)\s*(gb|gib|g|tb|tib)\b")
_SLICE = re.compile(r"\bmig\b(?:\s*\d+c)?(?:[\s.]*(\d+)g\.(\d+)gb(?:\+\w+)?)?", re.IGNORECASE)
"""What follows a card's name where it was cut: ``MIG 1g.5gb``, ``MIG 1c.3g.20gb``, or nothing more."""
_VIRTUAL = re.compile(r"-\d{1,3}[ABCQ]$")
"""A vGPU's profile behind a card's name: a share of the card that nobody tells (NVIDIA A100-40C)."""
_SLICES = 7.0
"""Compute slices of a card that MIG can cut (NVIDIA's MIG user guide)."""
_SAYS_NOTHING = frozenset(
    {
        "mac", "macbook", "imac", "studio", "mini", "air", "with", "and", "of", "memory", "ram", "vram", "unified",
        "cpu", "pcie", "sxm", "hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x", "gddr7", "oam", "virtual", "desktop",
    }
)  # fmt: skip
"""Words that stand beside a chip's name and change nothing of what the catalogue knows."""


@lru_cache(maxsize=1024)
def find_chip(name: str, *, cores: int = 0, memory_bytes: float = 0.0) -> Chip | None:
    """The chip that ``name`` means and nothing else: as a system reports it (``NVIDIA A100-SXM4-80GB``, ``Apple M4
    Max``) or as a person writes it (``m4 max 40c``).

    ``cores`` (GPU cores) and ``memory_bytes`` of one device choose among variants of one name; without them the
    slower variant is taken. Of a slice of a card, its share of the card. None: not in the catalogue, which is no
    reason to refuse it.
    """
    if _VIRTUAL.search(name):
        return None
    cut = _SLICE.search(name)
    if cut is not None:
        card = find_chip(name[: cut.start()])
        return _part(card, cut, memory_bytes) if card is not None else None
    found = nearest_chip(name, cores=cores, memory_bytes=memory_bytes)
    return found if found is not None and not unexplained(name, found) else None


def nearest_chip(name: str, *, cores: int = 0, memory_bytes: float = 0.0) -> Chip | None:
    """The chip named inside ``name``, whatever else it says; the longest name wins."""
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


def unexplained(name: str, chip: Chip) -> list[str]:
    """The words of ``name`` that are neither the chip's nor without meaning."""
    text = _GPU_CORES.sub(" ", _MEMORY.sub(" ", name.lower().replace("_", " ")))
    known = {word for alias in (chip.name, *chip.aliases) for word in words_of(alias)}
    return [word for word in words_of(text) if word not in known and word not in _SAYS_NOTHING]


def words_of(text: str) -> list[str]:
    """``NVIDIA GeForce RTX 4090`` and ``rtx4090`` become the same words."""
    text = _NOISE.sub(" ", text.lower().replace("_", " "))
    text = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", text)
    return re.findall(r"[a-z0-9]+", text)


def _part(card: Chip, cut: re.Match[str], memory_bytes: float) -> Chip:
    """Memory slices carry their share of the bandwidth, compute slices of the compute (MIG user guide, "Partitioning").
    Where nobody tells the profile, memory stands for both; of a slice of unknown size the smallest is assumed.
    """
    told = float(cut[2]) * 2**30 if cut[2] else 0.0
    memory = memory_bytes or told or card.memory_bytes / (_SLICES + 1)
    share = min(1.0, round(8 * memory / card.memory_bytes) / 8) or 1 / 8
    compute = int(cut[1]) / _SLICES if cut[1] else min(1.0, share * 8 / _SLICES)
    return replace(
        card,
        name=f"{card.name} {cut[0].upper()}",
        bandwidth_bytes_per_s=share * card.bandwidth_bytes_per_s,
        compute_flops=compute * card.compute_flops,
        memory_bytes=memory,
        aliases=(),
        source=f"{card.source}; {share:.3g} of its memory",
    )


def _words(text: str) -> str:
    return " ".join(words_of(text))


def _matched(chip: Chip, words: str) -> int:
    return max(len(_words(alias)) for alias in (chip.name, *chip.aliases) if f" {_words(alias)} " in words)


def _misfit(chip: Chip, cores: int, memory_gb: float) -> tuple[float, float, float]:
    wrong_cores = float(abs(chip.gpu_cores - cores)) if cores and chip.gpu_cores else 0.0
    wrong_memory = abs(chip.memory_bytes / 1e9 - memory_gb) if memory_gb and chip.memory_bytes else 0.0
    return wrong_cores, wrong_memory, chip.bandwidth_bytes_per_s
