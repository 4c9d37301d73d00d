"""Which worker holds which text blocks: a bounded index of chained block hashes.

For each hash one integer whose bits are the instances that hold it, so a walk down a prompt's hashes narrows all
workers at once. Each instance has its own least-recently-used order. Where a worker publishes its cache, what it
says is kept until it says otherwise; what was merely dispatched ages. At the bound, the oldest blocks of the
instance that holds most go first. Later blocks of a prompt go before earlier ones, as engines evict them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.scheduling.placement.candidates import InstanceKey

CAPACITY_BLOCKS = 1_000_000
"""Blocks over all instances: 64 million tokens, at most about 250 MB here."""

DEFAULT_INSTANCE_BLOCKS = 32_768
"""For an instance whose cache size is not known: 2 million tokens."""

AGE_S = 600.0
"""A dispatched block nobody asked for in so long counts as gone, unless the worker says it is there."""

_FEW = 8
_FOREVER = float("inf")


class _Holdings:
    """Blocks of one instance, oldest first. Two books, so that what a worker vouched for never hides what aged."""

    __slots__ = ("capacity", "confirmed", "guessed", "slot")

    def __init__(self, slot: int, capacity: int) -> None:
        self.slot = slot
        self.capacity = capacity
        self.guessed: dict[int, float] = {}  # hash -> when last used
        self.confirmed: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.guessed) + len(self.confirmed)

    def has(self, block: int) -> bool:
        return block in self.guessed or block in self.confirmed

    def pop_oldest(self) -> int:
        book: dict[int, float] | dict[int, None] = self.guessed or self.confirmed
        block = next(iter(book))
        del book[block]
        return block


class PrefixIndex:
    """See the module. Instances are named by key; ``slot_of`` gives the row of the array ``match`` returns."""

    def __init__(
        self,
        *,
        capacity_blocks: int = CAPACITY_BLOCKS,
        instance_blocks: int = DEFAULT_INSTANCE_BLOCKS,
        age_s: float = AGE_S,
    ) -> None:
        self._capacity = capacity_blocks
        self._instance_blocks = instance_blocks
        self._age_s = age_s
        self._holders: dict[int, int] = {}
        self._holdings: dict[InstanceKey, _Holdings] = {}
        self._free_slots: list[int] = []
        self._blocks = 0

    def __len__(self) -> int:
        """Blocks held, counted once per instance."""
        return self._blocks

    @property
    def slots(self) -> int:
        """Length of the array that ``match`` returns."""
        return len(self._holdings) + len(self._free_slots)

    def slot_of(self, key: InstanceKey, capacity_blocks: int = 0) -> int:
        """The instance's row, given on first mention; ``capacity_blocks``: its real cache, 0 when not known."""
        holdings = self._holdings.get(key)
        if holdings is None:
            slot = self._free_slots.pop() if self._free_slots else len(self._holdings)
            holdings = self._holdings[key] = _Holdings(slot, self._instance_blocks)
        if capacity_blocks > 0:
            holdings.capacity = min(capacity_blocks, self._capacity)
        return holdings.slot

    def match(self, hashes: Sequence[int]) -> NDArray[np.float64] | None:
        """For each slot, how many leading blocks it holds; None when nobody holds even the first."""
        holders = self._holders
        alive = holders.get(hashes[0], 0) if hashes else 0
        if not alive:
            return None
        depths = np.zeros(self.slots)
        for depth in range(1, len(hashes)):
            left = alive & holders.get(hashes[depth], 0)
            if left != alive:
                _mark(depths, alive & ~left, depth)
                alive = left
                if not alive:
                    return depths
        _mark(depths, alive, len(hashes))
        return depths

    def dispatched(self, key: InstanceKey, hashes: Sequence[int], now: float) -> int:
        """A prompt went to ``key``: it will hold the prompt's blocks. Returns how many it held, from the first."""
        self.slot_of(key)
        holdings = self._holdings[key]
        known = next((i for i, block in enumerate(hashes) if not holdings.has(block)), len(hashes))
        for block in reversed(hashes):  # the first block is used last, so it is evicted last
            if block in holdings.confirmed:
                del holdings.confirmed[block]
                holdings.confirmed[block] = None
            else:
                self._hold(holdings, block, now)
        self._shrink(holdings)
        return known

    def withdrawn(self, key: InstanceKey, hashes: Sequence[int]) -> None:
        """A prompt was refused by ``key``: of these blocks it holds only what it said itself."""
        holdings = self._holdings.get(key)
        if holdings is None:
            return
        for block in hashes:
            if holdings.guessed.pop(block, None) is not None:
                self._release(holdings, block)

    def published(self, key: InstanceKey, stored: Sequence[int], evicted: Sequence[int], *, cleared: bool) -> None:
        """The worker said what it holds and what it dropped."""
        self.slot_of(key)
        holdings = self._holdings[key]
        if cleared:
            self._clear(holdings)
        for block in evicted:
            if holdings.has(block):
                holdings.confirmed.pop(block, None)
                holdings.guessed.pop(block, None)
                self._release(holdings, block)
        for block in stored:
            self._hold(holdings, block, _FOREVER)
        self._shrink(holdings)

    def expire(self, key: InstanceKey, now: float) -> None:
        """Let go of what was only dispatched and has not been used for long. Cheap when nothing is due."""
        holdings = self._holdings.get(key)
        if holdings is None:
            return
        guessed = holdings.guessed
        while guessed:
            block = next(iter(guessed))
            if guessed[block] > now - self._age_s:
                return
            del guessed[block]
            self._release(holdings, block)

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone, or restarted with an empty cache."""
        holdings = self._holdings.get(key)
        if holdings is not None:
            self._clear(holdings)
            del self._holdings[key]
            self._free_slots.append(holdings.slot)

    def _hold(self, holdings: _Holdings, block: int, used_at: float) -> None:
        known = holdings.guessed.pop(block, None) is not None or block in holdings.confirmed
        if used_at == _FOREVER:
            holdings.confirmed.pop(block, None)
            holdings.confirmed[block] = None
        else:
            holdings.guessed[block] = used_at
        if not known:
            self._blocks += 1
            self._holders[block] = self._holders.get(block, 0) | (1 << holdings.slot)

    def _release(self, holdings: _Holdings, block: int) -> None:
        self._blocks -= 1
        left = self._holders[block] & ~(1 << holdings.slot)
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]

    def _shrink(self, holdings: _Holdings) -> None:
        while len(holdings) > holdings.capacity:
            self._release(holdings, holdings.pop_oldest())
        while self._blocks > self._capacity:
            # In strokes of a sixteenth, so that finding the largest is rare.
            largest = max(self._holdings.values(), key=len)
            for _ in range(max(len(largest) // 16, 1)):
                self._release(largest, largest.pop_oldest())

    def _clear(self, holdings: _Holdings) -> None:
        while len(holdings):
            self._release(holdings, holdings.pop_oldest())


def _mark(depths: NDArray[np.float64], bits: int, depth: int) -> None:
    """Write ``depth`` at every set bit."""
    if bits.bit_count() <= _FEW:
        while bits:
            low = bits & -bits
            depths[low.bit_length() - 1] = depth
            bits ^= low
        return
    raw = np.frombuffer(bits.to_bytes((len(depths) + 7) // 8, "little"), dtype=np.uint8)
    chosen = np.unpackbits(raw, count=len(depths), bitorder="little")
    depths[chosen.view(np.bool_)] = depth
