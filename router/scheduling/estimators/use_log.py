"""The blocks of one instance in the order of their last use: a queue of runs of blocks that were used together.

A dictionary kept in order of use would say the same, but not within a millisecond: Python looks for its oldest entry
from the front, over all that were removed, and rehashes all of it now and then. Here a block that is used again is
written down once more, and its older entry is *stale*. How many stale entries a block has is counted; all of them
come before the one that holds. So nothing is ever searched for, and runs are thrown away whole.
"""

from array import array
from collections import deque
from collections.abc import Sequence

TIDY_SLACK = 1024
"""Stale entries that are always put up with; beyond, half as many as there are blocks."""

MAX_RUN = 1024
"""Blocks in a run: no piece of work is larger."""

Run = tuple[float, "array[int]"]
"""When these were used, the one to let go first at the end. An array of 64-bit numbers holds no objects: the garbage
collector does not walk over it, and it goes in one piece."""

_SHARDS = 16
"""Dictionaries that share the counts of stale entries, so that rehashing one of them is nothing to wait for."""
_SHARD = _SHARDS - 1
_FOREVER = float("inf")


class UseLog:
    """See the module. ``len`` counts blocks, not entries."""

    __slots__ = ("_live", "_runs", "_stale", "_untidied", "entries")

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()  # oldest first
        self._stale: list[dict[int, int]] = [{} for _ in range(_SHARDS)]
        self._untidied: list[Run] = []  # of the pass over the runs that is under way; oldest last
        self.entries = 0  # stale ones too
        self._live = 0

    def __len__(self) -> int:
        return self._live

    @property
    def used_at(self) -> float:
        """When the last use was; -inf without any."""
        return self._runs[-1][0] if self._runs else -_FOREVER

    def used(self, blocks: Sequence[int], at: float) -> None:
        """These were used, the first of them last. For those that stand here already, ``outdated`` was called."""
        if not blocks:
            return
        for start in reversed(range(0, len(blocks), MAX_RUN)):
            self._runs.append((at, array("Q", blocks[start : start + MAX_RUN])))
        self.entries += len(blocks)
        self._live += len(blocks)
        self._tidy(2 * len(blocks) + _SHARDS)

    def outdated(self, block: int) -> None:
        """What stands here of the block counts no longer: it is used again, or is not held any more."""
        stale = self._stale[block & _SHARD]
        stale[block] = stale.get(block, 0) + 1
        self._live -= 1

    def pop(self, most: int, until: float = _FOREVER) -> list[int]:
        """Remove up to so many blocks, oldest first, that were last used at ``until`` or before."""
        popped: list[int] = []
        runs, stale = self._runs, self._stale
        while runs and len(popped) < most:
            used_at, blocks = runs[0]
            if used_at > until:
                break
            length = len(blocks)
            if self.entries == self._live - len(popped):  # nothing is stale
                cut = max(length - most + len(popped), 0)
                last = blocks[cut:].tolist()
                last.reverse()
                popped += last
                del blocks[cut:]
            while blocks and len(popped) < most:
                block = blocks.pop()
                if block not in stale[block & _SHARD] or not self._forgive(block):
                    popped.append(block)
            self.entries -= length - len(blocks)
            if not blocks:
                runs.popleft()
        self._live -= len(popped)
        return popped

    def scraps(self) -> list[dict[int, int]]:
        """What takes long to let go of, in small pieces. The log is not to be used any more."""
        return self._stale

    def _forgive(self, block: int) -> bool:
        """Whether the block's oldest entry, now removed, was stale."""
        stale = self._stale[block & _SHARD]
        count = stale.get(block, 0)
        if count > 1:
            stale[block] = count - 1
        elif count:
            del stale[block]
        return count > 0

    def _tidy(self, entries: int) -> None:
        """Remove stale entries, looking at about so many.

        A pass goes over the runs that are there when it begins, oldest first, and over none that comes meanwhile:
        only so is an entry of a block with a stale one never the newest of them.
        """
        if not self._untidied:
            if self.entries - self._live <= TIDY_SLACK + self._live // 2:
                return
            self._untidied = list(reversed(self._runs))
        stale = self._stale
        while self._untidied and entries > 0:
            _, blocks = self._untidied.pop()
            length = len(blocks)
            kept = [one for one in reversed(blocks) if one not in stale[one & _SHARD] or not self._forgive(one)]
            if len(kept) < length:
                blocks[:] = array("Q", reversed(kept))
                self.entries -= length - len(kept)
            entries -= length + 1
        if not self._untidied:
            self._runs = deque(run for run in self._runs if run[1])
