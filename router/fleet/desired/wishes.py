"""Hardware as an operator wishes for it: ``24 GiB and CUDA``, ``any Mac``, ``2 GPUs``, ``H100``. Pure.

A wish is clauses joined by "and" (or commas); a machine must meet every one. What is no known word names the machine
or its chip, as ``allsorts fleet`` shows it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from protos.contract.worker import Hardware

GIB = 2**30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(gib|gb|tib|tb)")
_COUNT = re.compile(r"(\d+)\s*gpus?")
_BYTES = {"gib": GIB, "gb": 10**9, "tib": 2**40, "tb": 10**12}
_KINDS = {
    "cuda": ("nvidia",), "nvidia": ("nvidia",), "rocm": ("amd",), "amd": ("amd",),
    "mac": ("apple",), "metal": ("apple",), "apple": ("apple",),
    "cpu": ("cpu",), "processor": ("cpu",), "gpu": ("nvidia", "amd", "apple"),
}  # fmt: skip


class BadWish(ValueError):
    """What is wrong with it, in one line."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Clauses with what each is for people."""

    clauses: tuple[tuple[str, Callable[[Hardware], bool]], ...] = ()

    def unmet(self, hardware: Hardware) -> str:
        """The first clause that a machine does not meet; empty: it meets all.

        >>> parse_wish("24 GiB and CUDA").unmet(Hardware(kind="apple", name="Apple M4", usable_memory_bytes=32 * GIB))
        'CUDA'
        """
        return next((text for text, meets in self.clauses if not meets(hardware)), "")


def parse_wish(text: str) -> Wish:
    """Raises BadWish."""
    clauses = [part.strip() for part in re.split(r",|\band\b", text, flags=re.IGNORECASE)]
    if text.strip() and not all(clauses):
        raise BadWish(f"'{text}': an empty clause; write clauses joined by 'and', for example '24 GiB and CUDA'")
    return Wish(tuple((clause, _clause(clause)) for clause in clauses if clause))


def _clause(text: str) -> Callable[[Hardware], bool]:
    words = text.lower().removeprefix("any ").removeprefix("a ").strip()
    if size := _SIZE.fullmatch(words):
        least = float(size[1]) * _BYTES[size[2]]
        return lambda machine: (machine.usable_memory_bytes or machine.memory_bytes) >= least
    if count := _COUNT.fullmatch(words):
        return lambda machine: machine.kind in _KINDS["gpu"] and machine.count >= int(count[1])
    for name in (words, words.removesuffix("s")):
        if name in _KINDS:
            return lambda machine, kinds=_KINDS[name]: machine.kind in kinds  # type: ignore[misc]
    if not re.search(r"[a-z]", words):
        raise BadWish(f"'{text}': no memory (24 GiB), kind (CUDA, Mac, GPU, CPU), count (2 GPUs) or chip (H100)")
    return lambda machine: words in machine.name.lower()
