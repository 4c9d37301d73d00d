"""Slots: the sequences of one context, what each has in its KV cache, and which a new prompt should take. Pure.

A prompt that continues what an idle slot holds goes on in place. One that shares a prefix with any slot, running or
idle, gets a copy of it. Otherwise the slot that was unused longest is overwritten.
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
    busy: bool = False
    used_at: int = 0  # a counter, not a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Take ``slot``; its first ``reused`` tokens are there, after copying from ``copy_from`` when that is set."""

    slot: int
    reused: int
    copy_from: int | None = None


def common_prefix(left: list[int], right: list[int]) -> int:
    """Number of equal tokens at the start."""
    length = min(len(left), len(right))
    if length == 0 or left[0] != right[0]:
        return 0
    differs = np.flatnonzero(np.asarray(left[:length]) != np.asarray(right[:length]))
    return int(differs[0]) if differs.size else length


class Slots:
    """All slots of one context."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(index) for index in range(count)]
        self._clock = 0

    @property
    def free(self) -> int:
        """Slots nothing runs in."""
        return sum(not slot.busy for slot in self.all)

    def assign(self, prompt: list[int]) -> Assignment | None:
        """The best slot for ``prompt``; None when all are busy. At least one token is left to compute."""
        idle = [slot for slot in self.all if not slot.busy]
        if not idle:
            return None
        usable = prompt[:-1]
        shared = {slot.index: common_prefix(slot.tokens, usable) for slot in self.all}
        best = max(self.all, key=lambda slot: (shared[slot.index], not slot.busy, -slot.index))
        reused = shared[best.index]
        oldest = min(idle, key=lambda slot: (bool(slot.tokens), slot.used_at if slot.tokens else 0, slot.index))
        if not best.busy and 2 * reused >= len(best.tokens) and (reused or best is oldest):
            return Assignment(slot=best.index, reused=reused)
        if reused >= COPY_WORTH_TOKENS and best is not oldest:
            return Assignment(slot=oldest.index, reused=reused, copy_from=best.index)
        return Assignment(slot=oldest.index, reused=shared[oldest.index])

    def take(self, assignment: Assignment, computed: list[int]) -> Slot:
        """Mark the slot busy; ``computed`` is what its memory holds now, extended by the caller step by step."""
        slot = self.all[assignment.slot]
        slot.busy = True
        slot.tokens = computed
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
        slot = min(idle, key=lambda one: (bool(one.tokens), one.used_at))
        slot.tokens = []
        return slot
