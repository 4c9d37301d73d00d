"""Which worker holds which text blocks: a bounded index of chained block hashes.

A walk down a prompt's hashes narrows all workers at once (``block_bits``). Each instance has its own order of last
use (``use_log``). Where a worker publishes its cache, what it says is kept until it says otherwise; what was merely
dispatched ages. At the bound, the oldest blocks of the instance that holds most go first. Later blocks of a prompt go
before earlier ones, as engines evict them.

No call takes longer than what it was given, for streams wait meanwhile. What is cleared or forgotten never matches
again, from that call on; its memory is given back by ``sweep``, a slice at a time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.scheduling.estimators.block_bits import SHARD, SLICE, BlockBits
from router.scheduling.estimators.use_log import UseLog
from router.scheduling.placement.candidates import InstanceKey

CAPACITY_BLOCKS = 1_000_000
"""Blocks over all instances: 64 million tokens, at most about 150 MB here; twice that while as much is swept."""

DEFAULT_INSTANCE_BLOCKS = 32_768
"""For an instance whose cache size is not known: 2 million tokens."""

AGE_S = 600.0
"""A dispatched block nobody asked for in so long counts as gone, unless the worker says it is there."""

_FEW = 8
_FOREVER = float("inf")


class _Instance:
    """What one instance holds: two logs, so that what a worker vouched for never hides what aged."""

    __slots__ = ("both", "capacity", "confirmed", "guessed", "held", "pair", "row", "vouched")

    def __init__(self, row: int, pair: int, capacity: int) -> None:
        self.row = row
        self.capacity = capacity
        self.begin(pair)

    def __len__(self) -> int:
        return len(self.guessed) + len(self.confirmed)

    def begin(self, pair: int) -> None:
        """Hold nothing, at the pair of bits with this number."""
        self.pair = pair
        self.held, self.vouched, self.both = 1 << 2 * pair, 2 << 2 * pair, 3 << 2 * pair
        self.guessed, self.confirmed = UseLog(), UseLog()

    def pop(self, most: int) -> list[int]:
        """Its oldest blocks, guesses first."""
        popped = self.guessed.pop(most)
        return popped + self.confirmed.pop(most - len(popped)) if len(popped) < most else popped


class PrefixIndex:
    """See the module. Instances are named by key; ``index_row`` gives the row of the array ``match`` returns."""

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
        self._bits = BlockBits()
        self._blocks = 0
        self._instances: dict[InstanceKey, _Instance] = {}
        self._by_row: list[_Instance] = []
        self._free_rows: list[int] = []
        self._sizes = np.zeros(0, dtype=np.int64)  # by row
        self._pairs = np.zeros(0, dtype=np.intp)  # by row

    def __len__(self) -> int:
        """Blocks held, counted once per instance."""
        return self._blocks

    @property
    def rows(self) -> int:
        """Length of the array that ``match`` returns."""
        return len(self._by_row)

    @property
    def hashes(self) -> int:
        """Different blocks in memory, among them those that wait to be erased."""
        return len(self._bits)

    def index_row(self, key: InstanceKey, capacity_blocks: int = 0) -> int:
        """The instance's row, given on first mention; ``capacity_blocks``: its real cache, 0 when not known."""
        one = self._instance(key)
        if capacity_blocks > 0:
            one.capacity = min(capacity_blocks, self._capacity)
        return one.row

    def match(self, hashes: Sequence[int]) -> NDArray[np.float64] | None:
        """For each row, how many leading blocks it holds; None when nobody holds even the first."""
        shards = self._bits.shards
        alive = shards[hashes[0] & SHARD].get(hashes[0], 0) & self._bits.live if hashes else 0
        if not alive:
            return None
        depths = np.zeros(self._bits.pairs)
        for depth in range(1, len(hashes)):
            block = hashes[depth]
            left = alive & shards[block & SHARD].get(block, 0)
            if left != alive:
                _mark(depths, alive & ~left, depth)
                alive = left
                if not alive:
                    return depths[self._pairs]
        _mark(depths, alive, len(hashes))
        return depths[self._pairs]

    def dispatched(self, key: InstanceKey, hashes: Sequence[int], now: float) -> int:
        """A prompt went to ``key``: it will hold the prompt's blocks. Returns how many it held, from the first."""
        one = self._instance(key)
        shards, held, vouched = self._bits.shards, one.held, one.vouched
        confirmed: list[int] = []
        known, again = -1, 0
        for block in hashes:
            shard = shards[block & SHARD]
            bits = shard.get(block)
            if bits is None:
                shard[block] = held  # the same number for all that it alone holds
            elif not bits & held:
                shard[block] = bits | held
            else:
                again += 1
                if bits & vouched:
                    one.confirmed.outdated(block)
                    confirmed.append(block)
                else:
                    one.guessed.outdated(block)
                continue
            if known < 0:
                known = again
        guessed = hashes
        if confirmed:
            said = set(confirmed)
            guessed = [block for block in hashes if block not in said]
        one.guessed.used(guessed, now)
        one.confirmed.used(confirmed, _FOREVER)
        self._grown(one, len(hashes) - again)
        return known if known >= 0 else again

    def withdrawn(self, key: InstanceKey, hashes: Sequence[int]) -> None:
        """A prompt was not computed by ``key``: of these blocks it holds only what it said itself."""
        one = self._instances.get(key)
        if one is not None:
            self._drop(one, hashes, also_confirmed=False)

    def published(self, key: InstanceKey, stored: Sequence[int], evicted: Sequence[int], *, cleared: bool) -> None:
        """The worker said what it holds and what it dropped."""
        one = self._instance(key)
        if cleared:
            self._clear(one)
        self._drop(one, evicted, also_confirmed=True)
        shards, held, vouched = self._bits.shards, one.held, one.vouched
        new = 0
        for block in stored:
            shard = shards[block & SHARD]
            bits = shard.get(block, 0)
            if not bits & held:
                new += 1
            elif bits & vouched:
                one.confirmed.outdated(block)
            else:
                one.guessed.outdated(block)
            shard[block] = bits | one.both if bits else one.both
        one.confirmed.used(stored[::-1], _FOREVER)
        self._grown(one, new)

    def expire(self, key: InstanceKey, now: float) -> None:
        """Let go of what was only dispatched and has not been used for long, at most a slice of it."""
        self.sweep()
        one = self._instances.get(key)
        if one is None or not len(one.guessed):
            return
        if one.guessed.used_at <= now - self._age_s and not len(one.confirmed):
            self._clear(one)
        else:
            self._erase(one, one.guessed.pop(SLICE, now - self._age_s))

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone, or restarted with an empty cache."""
        one = self._instances.pop(key, None)
        if one is not None:
            self._clear(one)
            self._bits.give_back(one.pair)
            self._free_rows.append(one.row)

    def sweep(self) -> bool:
        """A slice of giving back; True while there is more. ``expire`` calls it as well."""
        return self._bits.sweep()

    def _instance(self, key: InstanceKey) -> _Instance:
        one = self._instances.get(key)
        if one is None:
            row = self._free_rows.pop() if self._free_rows else len(self._by_row)
            one = self._instances[key] = _Instance(row, self._bits.take(), self._instance_blocks)
            if row == len(self._by_row):
                self._by_row.append(one)
                self._sizes, self._pairs = np.append(self._sizes, 0), np.append(self._pairs, 0)
            self._by_row[row] = one
            self._pairs[row] = one.pair
        return one

    def _grown(self, one: _Instance, blocks: int) -> None:
        self._blocks += blocks
        self._sizes[one.row] = len(one)
        if len(one) > one.capacity:
            self._erase(one, one.pop(len(one) - one.capacity))
        while self._blocks > self._capacity:
            largest = self._by_row[int(self._sizes.argmax())]
            self._erase(largest, largest.pop(min(self._blocks - self._capacity, max(len(largest) // 16, 1))))

    def _drop(self, one: _Instance, blocks: Sequence[int], *, also_confirmed: bool) -> None:
        """Wherever in the order they stand."""
        gone = []
        for block in dict.fromkeys(blocks):
            bits = self._bits.get(block) & one.both
            if bits and (bits == one.held or also_confirmed):
                (one.guessed if bits == one.held else one.confirmed).outdated(block)
                gone.append(block)
        self._erase(one, gone)

    def _erase(self, one: _Instance, blocks: Sequence[int]) -> None:
        """Its logs know them no longer."""
        shards, held, others = self._bits.shards, one.held, ~one.both
        for block in blocks:
            shard = shards[block & SHARD]
            bits = shard.pop(block)
            if bits != held and (left := bits & others):
                shard[block] = left
        self._blocks -= len(blocks)
        self._sizes[one.row] = len(one)

    def _clear(self, one: _Instance) -> None:
        size = len(one)
        if size <= SLICE:
            self._erase(one, one.pop(size))
            one.begin(one.pair)
            return
        while self._bits.retired_blocks + size > self._capacity:
            self._bits.sweep()  # a fleet that comes and goes faster than anybody sweeps
        self._bits.retire(one.pair, size, one.guessed.scraps() + one.confirmed.scraps())
        one.begin(self._bits.take())
        self._pairs[one.row] = one.pair
        self._blocks -= size
        self._sizes[one.row] = 0


def _mark(depths: NDArray[np.float64], bits: int, depth: int) -> None:
    """Write ``depth`` at every pair whose lower bit is set."""
    if bits.bit_count() <= _FEW:
        while bits:
            low = bits & -bits
            depths[low.bit_length() >> 1] = depth
            bits ^= low
        return
    raw = np.frombuffer(bits.to_bytes((len(depths) + 3) // 4, "little"), dtype=np.uint8)
    chosen = np.unpackbits(raw, count=2 * len(depths), bitorder="little")[::2]
    depths[chosen.view(np.bool_)] = depth
