"""The Files service: models' files on their way from one machine of the pool to another, or from the head's own folder.

Workers have no open port. So whoever lacks a file asks here (Fetch); whoever has it is told so over its session
(SendFile) and sends it up a stream of its own (Upload); here the two meet, in a ``Feed`` of a few MiB.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1 import fleet_pb2_grpc as pb_grpc
from protos.contract.codec.files import CHUNK_BYTES, FileChunk, encode_chunk
from protos.contract.commands import SendFile
from protos.contract.files.content import BadContent, check_sha256
from protos.contract.files.pace import Pace
from router.domain.clock import Clock
from router.errors import AllsortsError, NotAllowed, NotFound, Unavailable
from router.fleet.membership import Membership
from router.fleet.model_rules import ModelRules
from router.sessions.feed import BEHIND, SILENT_S, BadUpload, Feed, FeedEnded
from router.sessions.peers import peer_of
from router.trust.session_authorizer import SessionAuthorizer

log = structlog.get_logger()

MAX_FETCHES = 64
MAX_AVOIDED = 64
MAX_TRIES = 4
"""Holders that are asked in turn within one call; whoever wants the file may call again."""

HEAD = "head"
"""Who has what lies in the head's own folder."""

_CODES = {403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND, 503: grpc.StatusCode.UNAVAILABLE}


class OwnFiles(Protocol):
    """The head's folder of models."""

    def file_of(self, sha256: str) -> tuple[Path, str] | None:
        """Where a file lies, and the public name of a model it belongs to; None: not here."""
        ...


class FilesService(pb_grpc.FilesServicer):
    """Of one router replica. ``bytes_per_s`` bounds all that passes through it; 0: no bound."""

    def __init__(
        self,
        *,
        membership: Membership,
        authorizer: SessionAuthorizer,
        clock: Clock,
        own: OwnFiles | None = None,
        bytes_per_s: float = 0.0,
    ) -> None:
        self._membership = membership
        self._authorizer = authorizer
        self._clock = clock
        self._own = own
        self._pace = Pace(bytes_per_s)
        self._feeds: dict[str, Feed] = {}
        self._fetches = 0

    # -- down ------------------------------------------------------------------------------------------

    async def Fetch(self, request: pb.FetchFileRequest, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """A file from an offset to its end, from whoever has it: when one breaks off, from the next."""
        if self._fetches >= MAX_FETCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_FETCHES} fetches run here; try again")
        self._fetches += 1
        try:
            own = await self._allowed(request, context)
            if own is not None:
                await self._from_disk(own, request.offset, context)
            else:
                await self._from_pool(request, context)
        except grpc.aio.InternalError:
            log.info("file.hearer_gone", peer=context.peer(), sha256=request.sha256[:16])
        except BadContent as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except AllsortsError as error:
            log.warning("file.refused", peer=context.peer(), reason=error.message)
            code = _CODES.get(error.http_status, grpc.StatusCode.FAILED_PRECONDITION)
            await context.abort(code, error.message)
        finally:
            self._fetches -= 1

    async def _allowed(self, request: pb.FetchFileRequest, context: Any) -> Path | None:
        """The file here, where it is. Raises BadContent, NotAllowed, NotFound."""
        check_sha256(request.sha256)
        if request.offset % CHUNK_BYTES or len(request.avoid) > MAX_AVOIDED:
            raise BadContent(f"offset {request.offset} is no multiple of {CHUNK_BYTES}, or too many are avoided")
        own = self._own.file_of(request.sha256) if self._own is not None and HEAD not in request.avoid else None
        names = self._membership.files.names_of(request.sha256) | ({own[1]} if own is not None else set())
        if not names:
            raise NotFound(f"nobody in the pool has the file {request.sha256[:16]}…")
        if (certified := peer_of(context).worker_id) is not None:
            admitted = await self._authorizer.admit("", certified)
            rules = ModelRules(allowed=admitted.models, refused=admitted.refused_models)
            if all(reasons := [rules.why_not(one) for one in sorted(names)]):
                raise NotAllowed(reasons[0])
        return own[0] if own is not None else None

    async def _from_disk(self, path: Path, offset: int, context: Any) -> None:
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                await asyncio.to_thread(file.seek, offset)
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await self._paced(len(data))
                    await context.write(encode_chunk(FileChunk(offset=offset, data=data, transfer=HEAD)))
                    offset += len(data)
        except OSError as error:
            raise Unavailable(f"the head cannot read {path.name}: {error.strerror}") from None

    async def _from_pool(self, request: pb.FetchFileRequest, context: Any) -> None:
        """Raises NotFound, Unavailable."""
        sha256, at, avoided = request.sha256, request.offset, set(request.avoid)
        why = ""
        for _ in range(MAX_TRIES):
            size = self._membership.files.size_of(sha256)
            if size is not None and at >= size:
                return
            feed = self._feed(sha256, at, avoided)
            if feed is None or size is None:
                holders = self._membership.files.holders(sha256)
                if holders and set(holders) <= set(request.avoid):
                    raise NotFound(f"every copy of {sha256[:16]}… in the pool is damaged; take it away there")
                break
            try:
                async with contextlib.aclosing(feed.chunks(at)) as chunks:
                    async for chunk in chunks:
                        await context.write(chunk)
                        at += len(chunk.data)
                return
            except FeedEnded as ended:
                why = f"{feed.holder}: {ended}"
                log.info("file.broke_off", sha256=sha256[:16], holder=feed.holder, at=at, reason=str(ended))
                if str(ended) != BEHIND:
                    avoided.add(feed.holder)
        raise Unavailable(f"the file {sha256[:16]}… cannot be had now" + (f" ({why})" if why else ""))

    def _feed(self, sha256: str, offset: int, avoided: set[str]) -> Feed | None:
        """One that runs and comes by there, or a new one from the holder who sends least; None: nobody is left."""
        holders = [
            one
            for one in self._membership.files.holders(sha256)
            if one not in avoided and self._membership.connected(one)
        ]
        for feed in self._feeds.values():
            if feed.sha256 == sha256 and feed.holder in holders and feed.reaches(offset):
                return feed
        if not holders:
            return None
        sends = [feed.holder for feed in self._feeds.values()]
        holder = min(holders, key=sends.count)
        size = self._membership.files.size_of(sha256) or 0
        feed = Feed(transfer=uuid.uuid4().hex, sha256=sha256, offset=offset, size_bytes=size, holder=holder)
        self._feeds[feed.transfer] = feed
        feed.on_end(lambda: self._feeds.pop(feed.transfer, None))
        session = self._membership.session_of(holder)
        assert session is not None  # it is connected
        session.send(SendFile(transfer=feed.transfer, sha256=sha256, offset=offset))
        log.info("file.started", sha256=sha256[:16], holder=holder, offset=offset, size_bytes=size)
        return feed

    # -- up --------------------------------------------------------------------------------------------

    async def Upload(self, request_iterator: Any, context: Any) -> pb.UploadFileReply:  # noqa: N802 - gRPC's name
        """What SendFile asked for."""
        feed: Feed | None = None
        reason = "the holder's connection broke"
        try:
            async for chunk in _in_time(request_iterator):
                if feed is None:
                    feed = self._feeds.get(chunk.transfer)
                    if feed is None or peer_of(context).worker_id not in (None, feed.holder):
                        return pb.UploadFileReply(ended="nobody waits for this transfer")
                await self._paced(len(chunk.data))
                await feed.put(chunk)
            reason = "it ended too early"
        except (BadUpload, FeedEnded) as error:
            reason = str(error)
        finally:
            if feed is not None:
                await feed.end(reason)
        return pb.UploadFileReply(ended="" if feed is not None and feed.complete else reason)

    async def _paced(self, count: int) -> None:
        if (wait_s := self._pace.take(count, self._clock.now())) > 0.0:
            await asyncio.sleep(wait_s)


async def _in_time(chunks: AsyncIterator[pb.FileChunk]) -> AsyncIterator[pb.FileChunk]:
    """Those that come, each within ``SILENT_S`` of when it was awaited. Raises FeedEnded."""
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise FeedEnded(f"nothing came for {SILENT_S:g} s") from None
        yield chunk
