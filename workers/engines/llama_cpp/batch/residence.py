"""Which text blocks lie in the slots' memory, and what changes when a slot is used anew. Pure."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Residence:
    """Counts, for every block hash, the slots that hold it; reports a hash when it appears and when the last goes."""

    _slots: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _count: Counter[int] = field(default_factory=Counter)
    stored: list[int] = field(default_factory=list)  # since the last ``take``
    evicted: list[int] = field(default_factory=list)

    def keep(self, slot: int, hashes: tuple[int, ...]) -> None:
        """The slot is taken for a prompt of these blocks: what it has beyond their common start goes."""
        held = self._slots.get(slot, ())
        shared = 0
        while shared < min(len(held), len(hashes)) and held[shared] == hashes[shared]:
            shared += 1
        self.replace(slot, held[:shared])

    def replace(self, slot: int, hashes: tuple[int, ...]) -> None:
        """The slot holds exactly these blocks now."""
        for block in hashes:
            if not self._count[block]:
                self.stored.append(block)
            self._count[block] += 1
        for block in self._slots.get(slot, ()):
            self._count[block] -= 1
            if not self._count[block]:
                del self._count[block]
                self.evicted.append(block)
        self._slots[slot] = hashes

    def copy(self, source: int, target: int) -> None:
        """``target`` holds what ``source`` holds."""
        self.replace(target, self._slots.get(source, ()))

    def take(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(stored, evicted) since the last call."""
        changes = tuple(self.stored), tuple(self.evicted)
        self.stored.clear()
        self.evicted.clear()
        return changes
