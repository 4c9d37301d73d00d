"""For each text block one integer, with two bits per instance: it holds the block; it said so itself.

An instance that loses many blocks at once is given another pair of bits: from then on the old pair means nothing, and
is erased in ``sweep``, a slice at a time. Blocks are spread over many small dictionaries, because Python rehashes a
large one in tens of milliseconds, and that happens whenever enough has come and gone.
"""

SLICE = 2048
"""Entries looked at in one slice of work that can wait: a third of a millisecond."""

SHARDS = 256
"""Dictionaries: with a million blocks 4,000 each, and a rehash takes a tenth of a millisecond."""

SHARD = SHARDS - 1
"""``block & SHARD`` is its shard: hashes are as good as random in every bit."""


class BlockBits:
    """``shards`` and ``live`` are open to who walks over many blocks: a call for each would double the time."""

    def __init__(self) -> None:
        self.shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self.live = 0  # of all pairs in use, the lower bit
        self.pairs = 0  # ever given
        self._free: list[int] = []
        # What is to be erased: pairs, how many blocks they stood for, and what else goes with them.
        self._retired: list[int] = []
        self._retired_blocks = 0
        self._scraps: list[dict[int, int]] = []
        # The sweep under way: the pairs it erases, and the shards that it has yet to see.
        self._sweeping: list[int] = []
        self._sweeping_blocks = 0
        self._unswept: list[int] = []

    def __len__(self) -> int:
        """Blocks in memory, those that wait to be erased among them."""
        return sum(map(len, self.shards))

    @property
    def retired_blocks(self) -> int:
        """Blocks that wait to be erased, once per instance that held them."""
        return self._retired_blocks + self._sweeping_blocks

    def get(self, block: int) -> int:
        """Its bits; 0 when nobody holds it."""
        return self.shards[block & SHARD].get(block, 0)

    def take(self) -> int:
        """The number of a pair that no block has set."""
        if self._free:
            pair = self._free.pop()
        else:
            pair = self.pairs
            self.pairs += 1
        self.live |= 1 << 2 * pair
        return pair

    def give_back(self, pair: int) -> None:
        """No block has it set any more."""
        self.live ^= 1 << 2 * pair
        self._free.append(pair)

    def retire(self, pair: int, blocks: int, scraps: list[dict[int, int]]) -> None:
        """It means nothing from now on; ``blocks`` have it set. ``scraps`` are let go of meanwhile."""
        self.live ^= 1 << 2 * pair
        self._retired.append(pair)
        self._retired_blocks += blocks
        self._scraps += scraps

    def sweep(self) -> bool:
        """One slice of erasing; True while there is more to do."""
        budget = SLICE
        while self._scraps and budget > 0:
            budget -= 1 + len(self._scraps.pop()) // 2  # to let go of a number takes half as long as to look at it
        if not self._unswept and self._retired:
            self._sweeping, self._retired = self._retired, []
            self._sweeping_blocks, self._retired_blocks = self._retired_blocks, 0
            self._unswept = list(range(SHARDS))
        live = self.live | self.live << 1
        while self._unswept and budget > 0:
            number = self._unswept.pop()
            shard = self.shards[number]
            budget -= 1 + len(shard)
            # A new dictionary is as large as what is left: the old one would keep its size.
            self.shards[number] = {block: left for block, bits in shard.items() if (left := bits & live)}
        if not self._unswept:
            self._free += self._sweeping
            self._sweeping, self._sweeping_blocks = [], 0
        return bool(self._unswept or self._retired or self._scraps)
