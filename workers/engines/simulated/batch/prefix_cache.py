"""The simulated engine's prefix cache: text blocks by hash, shared between sequences, evicted least recently used.

A block in use by a sequence counts its tokens once, however many share it, and cannot go. What nobody uses stays as
long as there is room.
"""

from collections.abc import Sequence


class PrefixCache:
    """``held_tokens``: in blocks that sequences use; ``idle_tokens``: in blocks that may be evicted."""

    __slots__ = ("_idle", "_used", "changed_evicted", "changed_stored", "held_tokens", "idle_tokens")

    def __init__(self) -> None:
        self._used: dict[int, list[int]] = {}  # hash -> [users, tokens]
        self._idle: dict[int, int] = {}  # hash -> tokens, oldest first
        self.held_tokens = 0
        self.idle_tokens = 0
        self.changed_stored: list[int] = []
        self.changed_evicted: list[int] = []

    def __len__(self) -> int:
        return len(self._used) + len(self._idle)

    def match(self, hashes: Sequence[int]) -> int:
        """How many leading blocks are here."""
        depth = 0
        for block in hashes:
            if block not in self._used and block not in self._idle:
                break
            depth += 1
        return depth

    def tokens_to_revive(self, hashes: Sequence[int]) -> int:
        """Tokens that would turn from idle to held if a sequence used these blocks."""
        idle = self._idle
        return sum(idle[block] for block in hashes if block in idle)

    def use(self, hashes: Sequence[int], block_tokens: int) -> int:
        """A sequence uses these blocks; those not here are stored. Tokens of blocks that were here already."""
        shared = 0
        for block in hashes:
            entry = self._used.get(block)
            if entry is not None:
                entry[0] += 1
                shared += entry[1]
                continue
            tokens = self._idle.pop(block, 0)
            if tokens:
                self.idle_tokens -= tokens
                shared += tokens
            else:
                tokens = block_tokens
                self.changed_stored.append(block)
            self._used[block] = [1, tokens]
            self.held_tokens += tokens
        return shared

    def release(self, hashes: Sequence[int]) -> None:
        """A sequence no longer uses these blocks. Later blocks become evictable before earlier ones."""
        for block in reversed(hashes):
            entry = self._used[block]
            entry[0] -= 1
            if entry[0] == 0:
                del self._used[block]
                self.held_tokens -= entry[1]
                self._idle[block] = entry[1]
                self.idle_tokens += entry[1]

    def shrink(self, room_tokens: float) -> None:
        """Evict until idle blocks fit the room."""
        while self.idle_tokens > room_tokens and self._idle:
            block = next(iter(self._idle))
            self.idle_tokens -= self._idle.pop(block)
            self.changed_evicted.append(block)

    def drain_changes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Blocks stored and evicted since the last call."""
        changes = tuple(self.changed_stored), tuple(self.changed_evicted)
        self.changed_stored, self.changed_evicted = [], []
        return changes
