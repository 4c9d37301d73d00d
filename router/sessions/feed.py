"""One upload of a file, heard by all who fetch that file from about the same place: the holder sends it once.

A window of chunks is kept. The slowest hearer holds the upload up, until it holds it up too long: then it has fallen
behind, and goes on by an upload of its own.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.files import CHUNK_BYTES
from protos.contract.ids import WorkerId

WINDOW_CHUNKS = 32
"""8 MiB of a file, for each upload."""

BEHIND_S = 5.0
"""How long one hearer may hold up others."""

FIRST_CHUNK_S = 10.0
SILENT_S = 20.0
"""An upload of which nothing comes for so long has ended."""


BEHIND = "it fell behind others who fetch the same file"


class FeedEnded(Exception):
    """Nothing more comes by this upload; the reason in one line."""


class BadUpload(Exception):
    """The holder sends what was not asked for."""


class Feed:
    """The upload ``transfer`` of a file of ``size_bytes`` by ``holder``, from ``offset`` on."""

    def __init__(self, *, transfer: str, sha256: str, offset: int, size_bytes: int, holder: WorkerId) -> None:
        self.transfer = transfer
        self.sha256 = sha256
        self.offset = offset
        self.holder = holder
        self._size_bytes = size_bytes
        self._first = self._next = offset  # of the window, and behind it
        self._window: deque[pb.FileChunk] = deque()
        self._hearers: dict[int, int] = {}  # the offset each needs next
        self._ids = itertools.count()
        self._changed = asyncio.Condition()
        self._ended = ""
        self._on_end: Callable[[], object] = lambda: None

    @property
    def complete(self) -> bool:
        """Whether the holder has sent all."""
        return self._next >= self._size_bytes

    def on_end(self, hear: Callable[[], object]) -> None:
        """Call ``hear`` once nobody may begin to listen any more."""
        self._on_end = hear

    def reaches(self, offset: int) -> bool:
        """Whether one that needs ``offset`` next, where a chunk begins, can listen to it."""
        return not self._ended and self._first <= offset <= self._next

    # -- the holder's side -----------------------------------------------------------------------------

    async def put(self, chunk: pb.FileChunk) -> None:
        """The next chunk, once there is room for it. Raises BadUpload, FeedEnded when nobody listens any more."""
        size = len(chunk.data)
        if chunk.offset != self._next or size != min(CHUNK_BYTES, self._size_bytes - self._next) or not size:
            raise BadUpload(f"a chunk of {size} bytes at {chunk.offset}, where {self._next} was awaited")
        async with self._changed:
            await self._make_room()
            chunk.transfer = self.holder  # the other end may want to know
            self._window.append(chunk)
            self._next += size
            self._changed.notify_all()

    async def _make_room(self) -> None:
        if self._ended or not self._hearers:
            raise FeedEnded(self._ended or "nobody listens")
        try:
            async with asyncio.timeout(BEHIND_S if len(self._hearers) > 1 else SILENT_S):
                await self._changed.wait_for(lambda: bool(self._ended) or self._trimmed() < WINDOW_CHUNKS)
        except TimeoutError:
            behind = min(self._hearers.values())
            self._hearers = {one: at for one, at in self._hearers.items() if at > behind}
            self._trimmed()
        if self._ended or not self._hearers:
            raise FeedEnded(self._ended or "nobody listens")

    def _trimmed(self) -> int:
        """Chunks in the window, once what all have heard is gone, as far as it must be."""
        behind = min(self._hearers.values(), default=self._next)
        while len(self._window) >= WINDOW_CHUNKS and self._first + len(self._window[0].data) <= behind:
            self._first += len(self._window.popleft().data)
        return len(self._window)

    async def end(self, reason: str) -> None:
        """Nothing more comes. Idempotent."""
        async with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()
        self._on_end()

    # -- a hearer's side -------------------------------------------------------------------------------

    async def chunks(self, offset: int) -> AsyncGenerator[pb.FileChunk, None]:
        """All from ``offset`` to the file's end. Raises FeedEnded where it breaks off before."""
        me, at, waits_s = next(self._ids), offset, FIRST_CHUNK_S
        self._hearers[me] = at
        try:
            while at < self._size_bytes:
                chunk = await self._next_for(me, at, waits_s)
                yield chunk
                at, waits_s = at + len(chunk.data), SILENT_S
                if me in self._hearers:
                    async with self._changed:
                        self._hearers[me] = at
                        self._changed.notify_all()
        finally:
            self._hearers.pop(me, None)
            if not self._hearers:
                await self.end("nobody listens")

    async def _next_for(self, me: int, at: int, waits_s: float) -> pb.FileChunk:
        async with self._changed:
            try:
                async with asyncio.timeout(waits_s):
                    await self._changed.wait_for(
                        lambda: bool(self._ended) or self._next > at or me not in self._hearers
                    )
            except TimeoutError:
                self._ended = self._ended or f"nothing came for {waits_s:g} s"
                self._changed.notify_all()
                self._on_end()
            if me not in self._hearers:
                raise FeedEnded(BEHIND)
            if at >= self._next:
                raise FeedEnded(self._ended)
            return self._window[(at - self._first) // CHUNK_BYTES]
