"""Slots: the sequences of one context, what each has in its KV cache, and which a new prompt should take. Pure.

A prompt that continues what an idle slot holds goes on in place. One that shares a prefix with any slot, running or
idle, gets a copy of it. Otherwise the memory that was unused longest is overwritten.

With a KV stream for each sequence, llama.cpp computes neighbouring sequences together and splits a batch at every
gap: eight sequences in four runs take 2.4 times as long as eight in a row (SmolLM2-135M Q8_0, one core). So a new
sequence goes beside those that run; what lies there and is worth keeping moves to where the oldest memory was.
"""

from dataclasses import dataclass, field

import numpy as np

COPY_WORTH_TOKENS = 64
"""A copy moves the whole sequence's memory; below this many tokens, computing them again is as fast."""


@dataclass(slots=True)
class Slot:
    """One sequence id and what its memory holds."""

    index: int
    tokens: list[int] = field(default_factory=list)
    salt: str = ""  # whose they are: nobody else may find them
    busy: bool = False
    used_at: int = 0  # a counter, not a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Take ``slot``; its first ``reused`` tokens are there, after copying from ``copy_from`` when that is set.

    Before all that, what ``slot`` holds is copied to ``move_to`` when that is set: to be found there later.
    """

    slot: int
    reused: int
    copy_from: int | None = None
    move_to: int | None = None


def common_prefix(left: list[int], right: list[int]) -> int:
    """Number of equal tokens at the start."""
    length = min(len(left), len(right))
    if length == 0 or left[0] != right[0]:
        return 0
    differs = np.flatnonzero(np.asarray(left[:length]) != np.asarray(right[:length]))
    return int(differs[0]) if differs.size else length


def _age(slot: Slot) -> tuple[bool, int, int]:
    """Sorts empty slots first, then those unused longest."""
    return bool(slot.tokens), slot.used_at, slot.index


class Slots:
    """All slots of one context."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(index) for index in range(count)]
        self._clock = 0

    @property
    def free(self) -> int:
        """Slots nothing runs in."""
        return sum(not slot.busy for slot in self.all)

    def assign(self, prompt: list[int], salt: str = "") -> Assignment | None:
        """The best slot for ``prompt``; None when all are busy. At least one token is left to compute. Only what was
        computed under the same ``salt`` is used again.
        """
        idle = [slot for slot in self.all if not slot.busy]
        if not idle:
            return None
        usable = prompt[:-1]
        shared = {slot.index: common_prefix(slot.tokens, usable) if slot.salt == salt else 0 for slot in self.all}
        best = max(self.all, key=lambda slot: (shared[slot.index], not slot.busy, -slot.index))
        target = min(idle, key=lambda slot: (self._gaps_added(slot), *_age(slot)))
        reused = shared[best.index]
        continues = not best.busy and reused > 0 and 2 * reused >= len(best.tokens)
        if continues and self._gaps_added(best) <= self._gaps_added(target):
            return Assignment(slot=best.index, reused=reused)
        if best is target or reused < COPY_WORTH_TOKENS:
            return Assignment(slot=target.index, reused=shared[target.index], move_to=self._attic(idle, target))
        move_to = self._attic([slot for slot in idle if slot is not best], target)
        return Assignment(slot=target.index, reused=reused, copy_from=best.index, move_to=move_to)

    def _attic(self, idle: list[Slot], target: Slot) -> int | None:
        """Where to keep what ``target`` holds: over the oldest memory. None when that is its own, or it is short."""
        oldest = min(idle, key=_age)
        return oldest.index if oldest is not target and len(target.tokens) >= COPY_WORTH_TOKENS else None

    def _gaps_added(self, slot: Slot) -> int:
        """How many more runs of neighbouring busy slots there are with this one taken: -1, 0 or 1."""
        index = slot.index
        before = index > 0 and self.all[index - 1].busy
        after = index + 1 < len(self.all) and self.all[index + 1].busy
        return 1 - before - after

    def move(self, source: int, target: int) -> None:
        """The memory of ``source`` was copied to ``target``: remember it there, as old as it is."""
        self.all[target].tokens = list(self.all[source].tokens)
        self.all[target].salt = self.all[source].salt
        self.all[target].used_at = self.all[source].used_at

    def take(self, assignment: Assignment, computed: list[int], salt: str = "") -> Slot:
        """Mark the slot busy; ``computed`` is what its memory holds now, extended by the caller step by step."""
        slot = self.all[assignment.slot]
        slot.busy = True
        slot.tokens = computed
        slot.salt = salt
        return slot

    def release(self, index: int) -> None:
        """The sequence ended; what it computed stays in memory for whoever shares it."""
        slot = self.all[index]
        slot.busy = False
        self._clock += 1
        slot.used_at = self._clock

    def borrow(self) -> Slot | None:
        """The idle slot whose memory is missed least, emptied; None when all are busy."""
        idle = [slot for slot in self.all if not slot.busy]
        if not idle:
            return None
        slot = min(idle, key=_age)
        slot.tokens = []
        return slot
