"""One file of a model, from the first source that gives it whole: goes on where it broke off, and believes no one."""

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from protos.contract.files.pace import Pace
from workers.models.disk import ModelDisk, NoDisk
from workers.models.partial import BLOCK_BYTES, PartialFile
from workers.models.sources import FetchFailed, Source, SourceBroke, SourceRefused

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 5.0
PATIENCE_S = 120.0
"""So long without a byte more is the end: whoever wants the model says so again."""

CHECK_DISK_EVERY = 16
"""Blocks between two looks at the disk: others write there too."""


@dataclass(slots=True)
class Blame:
    """Whose copies are damaged. Where several had a hand in a bad file, each is tried alone before it is believed."""

    bad: set[str] = field(default_factory=set)
    suspects: list[str] = field(default_factory=list)

    @property
    def avoid(self) -> frozenset[str]:
        """Who is not to be asked now."""
        return frozenset(self.bad | set(self.suspects[1:]))

    def mismatch(self, holders: set[str]) -> None:
        """What these gave together was not the file."""
        if len(holders) == 1:
            self.bad |= holders
            self.suspects = [one for one in self.suspects if one not in holders]
        else:
            self.suspects = sorted(holders - self.bad)


class Transfer:
    """``partial`` from ``sources``, best first. ``came``: told of each block, with the source's name."""

    def __init__(
        self,
        partial: PartialFile,
        sources: Sequence[Source],
        *,
        disk: ModelDisk,
        pace: Pace,
        came: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._partial = partial
        self._sources = sources
        self._disk = disk
        self._pace = pace
        self._came = came
        self._patience_s = patience_s
        self._refused: dict[str, str] = {}
        self._blame = Blame()
        self._holders: set[str] = set()  # of what is here since this began

    async def run(self) -> None:
        """Until the file is whole and what it must be. Raises FetchFailed, NoDisk; what has come is kept for later
        then, but where the disk is full.
        """
        try:
            await self._run()
        except NoDisk:
            await asyncio.to_thread(self._partial.discard)
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                await asyncio.to_thread(self._partial.discard)
                raise NoDisk(
                    f"the disk under {self._disk.folder} is full: {self._partial.part.name} is not kept"
                ) from None
            raise FetchFailed(f"{self._partial.path}: {error.strerror or error}") from None

    async def _run(self) -> None:
        turn, delay_s, moved_at = 0, BACKOFF_FIRST_S, time.monotonic()
        while True:
            source = self._source(turn)
            before, why = self._partial.offset, ""
            try:
                await self._from(source)
                if await self._is_right(source):
                    return
            except SourceRefused as refused:
                self._refused[source.name] = str(refused)
                continue
            except SourceBroke as broke:
                turn, why = turn + 1, str(broke)
            if self._partial.offset > before:
                delay_s, moved_at = BACKOFF_FIRST_S, time.monotonic()
            elif time.monotonic() - moved_at > self._patience_s:
                raise FetchFailed(f"{self._partial.part.name}: nothing came for {self._patience_s:.0f} s ({why})")
            await asyncio.sleep(delay_s)
            delay_s = min(BACKOFF_LAST_S, 2 * delay_s)

    def _source(self, turn: int) -> Source:
        left = [one for one in self._sources if one.name not in self._refused]
        if not left:
            raise FetchFailed(f"{self._partial.part.name}: {'; '.join(self._refused.values())}")
        return left[turn % len(left)]

    async def _from(self, source: Source) -> None:
        """Blocks as they come; half a block is no use when it breaks off."""
        part, block, blocks = self._partial.part, bytearray(), 0
        if part.size_bytes and self._partial.offset >= part.size_bytes:
            return
        async with aclosing(source.read(part, self._partial.offset, self._blame.avoid)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if piece.holder:
                    self._holders.add(piece.holder)
                if (wait_s := self._pace.take(len(piece.data), time.monotonic())) > 0.0:
                    await asyncio.sleep(wait_s)
                block += piece.data
                while len(block) >= BLOCK_BYTES:
                    await self._keep(bytes(block[:BLOCK_BYTES]), source)
                    del block[:BLOCK_BYTES]
                    blocks += 1
                    if blocks % CHECK_DISK_EVERY == 0:
                        left = max(0, part.size_bytes - self._partial.offset)
                        await asyncio.to_thread(self._disk.check, left, part.name)
        if part.size_bytes and self._partial.offset + len(block) < part.size_bytes:
            raise SourceBroke(f"{source.name} ended at {self._partial.offset + len(block)} of {part.size_bytes} bytes")
        if block:
            await self._keep(bytes(block), source)

    async def _keep(self, block: bytes, source: Source) -> None:
        part = self._partial.part
        if part.size_bytes and self._partial.offset + len(block) > part.size_bytes:
            await asyncio.to_thread(self._partial.discard)
            await asyncio.to_thread(self._partial.open)
            raise SourceRefused(f"{source.name}: its {part.name} is longer than the {part.size_bytes} bytes expected")
        await asyncio.to_thread(self._partial.write, block)
        self._came(source.name)

    async def _is_right(self, source: Source) -> bool:
        """Whether what has come is the file; if not, nothing of it is kept."""
        part = self._partial.part
        if not part.sha256 or self._partial.sha256 == part.sha256:
            return True
        holders, self._holders = self._holders or {source.name}, set()
        self._blame.mismatch(holders)
        await asyncio.to_thread(self._partial.discard)
        await asyncio.to_thread(self._partial.open)
        if source.name in holders:  # it has one copy
            raise SourceRefused(f"{source.name}: its {part.name} is not the one wanted ({part.sha256[:16]}…)")
        return False
