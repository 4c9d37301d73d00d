"""What routers ask about models' files: fetch one, send one, take one away; and what they are told of those here."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import structlog

from protos.contract.commands import POOL, FetchModel, LoadModel, RemoveModel, SendFile
from protos.contract.events import FetchProgress, FilesHeld
from protos.contract.files.content import ModelContent
from protos.contract.files.library import ModelLibrary, Shelved
from protos.contract.files.pace import Pace
from workers.errors import WorkerError
from workers.models.disk import ModelDisk
from workers.models.fetcher import Fetcher, Tell, Wanted
from workers.models.sources import FetchFailed, Source
from workers.models.web import WebSource
from workers.session.channel import ChannelSecurity
from workers.session.pool_files import PoolSource, upload
from workers.session.session import Session
from workers.session.session_pool import SessionPool

log = structlog.get_logger(__name__)

MAX_UPLOADS = 4
LOOK_EVERY_S = 30.0

Served = Callable[[], Mapping[Path, tuple[str, str]]]
"""Paths of the models that are loaded, being loaded or wanted here, with their names and quantizations."""

Identified = Callable[[Mapping[Path, str]], None]
"""Told the SHA-256 of the contents of the models here, by path."""


class ModelFiles:
    """Of one worker. ``shares``: whether its files may go to other machines; ``fetches``: whether any may come here."""

    def __init__(
        self,
        library: ModelLibrary,
        disk: ModelDisk,
        *,
        sessions: SessionPool,
        served: Served,
        identified: Identified = lambda _: None,
        security: ChannelSecurity | None = None,
        fetches: bool = True,
        shares: bool = True,
        fetch_bytes_per_s: float = 0.0,
        share_bytes_per_s: float = 0.0,
    ) -> None:
        self._library = library
        self._disk = disk
        self._sessions = sessions
        self._served = served
        self._identified = identified
        self._security = security
        self._fetches = fetches
        self._shares = shares
        self._share_pace = Pace(share_bytes_per_s)
        self._fetcher = Fetcher(library, disk, pace=Pace(fetch_bytes_per_s))
        self._uploads = 0
        self._told: FilesHeld | None = None
        self._turn = asyncio.Lock()

    # ------------------------------------------------------------ what is here

    async def watch(self, every_s: float = LOOK_EVERY_S) -> None:
        """Look again and again, until cancelled: files come and go by their owner's hand too."""
        try:
            await asyncio.to_thread(self._disk.forget_stale)
            while True:
                await self.look()
                await asyncio.sleep(every_s)
        finally:
            self._library.stop()

    async def look(self) -> None:
        """Look once, and tell routers what changed."""
        async with self._turn:
            for problem in await asyncio.to_thread(self._library.look, self._served()):
                log.debug("model_files.skipped", reason=problem)
            try:
                room = await asyncio.to_thread(self._disk.room_bytes)
            except OSError:
                room = 0
            room -= room % 2**26  # what logs write is no news
            self._identified({one.path: one.held.content.sha256 for one in self._library.shelved})
            told = FilesHeld(models=self._library.held, room_bytes=room if self._fetches else 0, shares=self._shares)
            if told != self._told:
                self._told = told
                self._sessions.broadcast(told)

    def tell(self, session: Session) -> None:
        """A session is open."""
        if self._told is not None:
            session.put_event(self._told)

    # ------------------------------------------------------------ what routers ask

    async def fetch(self, asked: FetchModel | LoadModel, tell: Tell = lambda _: None) -> Path:
        """The model's files, once they are here. Routers hear how far it is, and how it ended; ``tell`` how far.

        Raises FetchFailed, NoDisk, BadSource.
        """

        def hear(progress: FetchProgress) -> None:
            self._sessions.broadcast(progress)
            tell(progress)

        try:
            path = await self._fetched(asked, hear)
        except WorkerError as error:
            log.warning("model.fetch_failed", model=asked.model, reason=str(error))
            self._sessions.broadcast(_failed(asked.model, asked.quantization, asked.content, str(error)))
            raise
        self._sessions.broadcast(
            FetchProgress(model=asked.model, quantization=asked.quantization, done_bytes=1, total_bytes=1)
        )
        return path

    async def _fetched(self, asked: FetchModel | LoadModel, tell: Tell) -> Path:
        content = asked.content if asked.content is not None and asked.content.sha256 else None
        if content is not None and (here := await self._here(content)) is not None:
            return here.path
        if not self._fetches:
            raise FetchFailed(f"{asked.model} is not on this machine, and its owner lets nothing be fetched")
        wanted = Wanted(
            model=asked.model,
            quantization=asked.quantization,
            sources=[self._source(one) for one in asked.sources or (POOL,)],
            content=content,
            size_bytes=asked.size_bytes,
        )
        path = await self._fetcher.fetch(wanted, tell)
        await self.look()
        return path

    async def send(self, session: Session, asked: SendFile) -> None:
        """A SendFile: up a stream of its own to the router that asked."""
        found = self._library.file_of(asked.sha256)
        if found is None or not self._shares or self._uploads >= MAX_UPLOADS:
            log.info("file.not_sent", sha256=asked.sha256[:16], here=found is not None, uploads=self._uploads)
            return  # the router tries another
        self._uploads += 1
        try:
            reason = await upload(
                session.address,
                self._security,
                transfer=asked.transfer,
                path=found[0],
                offset=asked.offset,
                pace=self._share_pace,
            )
            log.info("file.sent", file=found[0].name, offset=asked.offset, ended=reason)
        except (grpc.aio.AioRpcError, OSError, WorkerError) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            log.info("file.send_failed", file=found[0].name, reason=reason)
        finally:
            self._uploads -= 1

    async def remove(self, asked: RemoveModel) -> None:
        """A RemoveModel. What it is refused for is told in one line, as of a fetch."""
        reason = await self._removed(asked)
        if reason:
            log.info("model.not_removed", model=asked.model, reason=reason)
            failed = _failed(asked.model, asked.quantization, None, f"not removed: {reason}")
            self._sessions.broadcast(failed)
        await self.look()

    # ------------------------------------------------------------ inside

    async def _here(self, content: ModelContent) -> Shelved | None:
        """Looked for again where it was not there at the last look."""
        found = self._library.find(content.sha256)
        if found is not None and await asyncio.to_thread(_is_there, found):
            return found
        await self.look()
        return self._library.find(content.sha256)

    def _source(self, text: str) -> Source:
        if text == POOL:
            return PoolSource(lambda: [one.address for one in self._sessions if one.is_open], self._security)
        return WebSource(text, os.environ)

    async def _removed(self, asked: RemoveModel) -> str:
        """Why not; empty: it is gone."""
        found = self._library.find(asked.content)
        if self._fetcher.runs(asked.content):
            return "it is on its way here"
        if found is None:
            return "it is not here"
        if found.path in self._served():
            return f"it is loaded or being loaded here; unload {asked.model} first"
        if not found.path.is_relative_to(self._library.folder.absolute()):
            return f"it lies outside {self._library.folder}, where its owner put it"
        try:
            await asyncio.to_thread(self._library.delete, found)
        except OSError as error:
            return f"{found.path}: {error.strerror or error}"
        log.info("model.removed", model=asked.model, path=str(found.path))
        return ""


def _is_there(found: Shelved) -> bool:
    return all(found.file(one.name).is_file() for one in found.held.content.parts)


def _failed(model: str, quantization: str, content: ModelContent | None, reason: str) -> FetchProgress:
    return FetchProgress(
        model=model, quantization=quantization, content=content.sha256 if content else "", error=reason
    )
