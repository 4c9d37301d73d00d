"""Models' files through the router: fetched from whoever in the pool has them, and sent to whoever lacks them.

Each call has a connection of its own, with this worker's certificate: the session's tokens never wait behind a file.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO, Any

import grpc
import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FilesStub
from protos.contract.codec.files import CHUNK_BYTES, BadChunk, FileChunk, decode_chunk, encode_chunk
from protos.contract.commands import POOL
from protos.contract.files.content import FilePart
from protos.contract.files.pace import Pace
from workers.models.sources import Piece, SourceBroke, SourceRefused, no_listing
from workers.session.channel import ChannelSecurity, InsecureAddress, open_channel

log = structlog.get_logger(__name__)

SILENT_S = 45.0
"""Longer than the router waits for a holder: it then tries the next."""

_FINAL = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)


class PoolSource:
    """``addresses``: of the routers this worker has sessions with, asked at each attempt; one after the other."""

    name = POOL

    def __init__(self, addresses: Callable[[], Sequence[str]], security: ChannelSecurity | None) -> None:
        self._addresses = addresses
        self._security = security
        self._turn = 0

    async def listing(self) -> tuple[FilePart, ...]:
        """The router names the files where it knows them."""
        raise no_listing(self.name)

    async def read(self, part: FilePart, offset: int, avoid: frozenset[str]) -> AsyncIterator[Piece]:
        """Through one router. Raises SourceBroke, SourceRefused."""
        if not (addresses := self._addresses()):
            raise SourceBroke(f"{self.name}: no router has this worker now")
        self._turn += 1
        address = addresses[self._turn % len(addresses)]
        request = pb.FetchFileRequest(sha256=part.sha256, offset=offset, avoid=sorted(avoid))
        try:
            async with open_channel(address, self._security) as channel:
                call = FilesStub(channel).Fetch(request)
                try:
                    async for chunk in _chunks(call, offset):
                        yield Piece(data=chunk.data, holder=chunk.transfer)
                finally:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            line = f"{self.name}: {error.details() or error.code().name}"
            had = error.code() is grpc.StatusCode.NOT_FOUND and offset > 0 and not avoid
            # a cut that ended this read may have ended the holder's session too: it dials again in a moment
            raise (SourceRefused(line) if error.code() in _FINAL and not had else SourceBroke(line)) from None
        except (BadChunk, TimeoutError, InsecureAddress, OSError) as error:
            raise SourceBroke(f"{self.name}: {error or 'nothing came'}") from None


async def _chunks(call: Any, offset: int) -> AsyncIterator[FileChunk]:
    """In order. Raises BadChunk, TimeoutError, AioRpcError."""
    while True:
        async with asyncio.timeout(SILENT_S):
            message = await call.read()
        if message is grpc.aio.EOF:
            return
        chunk = await asyncio.to_thread(decode_chunk, message)
        if chunk.offset != offset:
            raise BadChunk(f"a chunk at {chunk.offset}, where {offset} was awaited")
        yield chunk
        offset += len(chunk.data)


async def upload(
    address: str, security: ChannelSecurity | None, *, transfer: str, path: Path, offset: int, pace: Pace
) -> str:
    """Send a file from ``offset`` on to the router at ``address``; why it took no more, empty: it has all.

    Raises AioRpcError, OSError, InsecureAddress.
    """
    loop = asyncio.get_running_loop()

    async def chunks(file: IO[bytes]) -> AsyncIterator[pb.FileChunk]:
        at = offset
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            if (wait_s := pace.take(len(data), loop.time())) > 0.0:
                await asyncio.sleep(wait_s)
            chunk = FileChunk(offset=at, data=data, transfer=transfer if at == offset else "")
            yield await asyncio.to_thread(encode_chunk, chunk)
            at += len(data)

    with await asyncio.to_thread(path.open, "rb") as file:
        await asyncio.to_thread(file.seek, offset)
        async with open_channel(address, security) as channel:
            reply: pb.UploadFileReply = await FilesStub(channel).Upload(chunks(file))
            return reply.ended
