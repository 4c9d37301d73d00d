"""Models' files that this machine lacks, fetched: one fetch for all who want the same model, resumed and verified."""

import asyncio
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from protos.contract.events import FetchProgress
from protos.contract.files.content import BadContent, FilePart, ModelContent, check_content, content_of
from protos.contract.files.library import ModelLibrary
from protos.contract.files.pace import Pace
from protos.contract.files.parts import entry_last, entry_of, folder_name, local_names
from workers.models.disk import ModelDisk
from workers.models.partial import PartialFile
from workers.models.sources import FetchFailed, Source, SourceBroke, SourceRefused
from workers.models.transfer import PATIENCE_S, Transfer

log = structlog.get_logger(__name__)

SAID_EVERY_S = 0.5
LISTING_TRIES = 4
MAX_FETCHES = 8

Tell = Callable[[FetchProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model to fetch. ``content`` None: what the first source lists; ``size_bytes``: expected then, 0: unknown."""

    model: str
    quantization: str
    sources: Sequence[Source]
    content: ModelContent | None = None
    size_bytes: int = 0

    @property
    def key(self) -> str:
        """Equal where the same files are wanted."""
        if self.content is not None:
            return self.content.sha256
        return hashlib.sha256("\n".join(one.name for one in self.sources).encode()).hexdigest()


class _Shared:
    """A fetch that runs, and who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Path]
        self.hearers: list[Tell] = []
        self.last: FetchProgress | None = None

    def tell(self, progress: FetchProgress) -> None:
        self.last = progress
        for one in tuple(self.hearers):
            one(progress)


class Fetcher:
    """Into ``library``'s folder. ``pace``: of all that is fetched; ``patience_s``: without a byte more."""

    def __init__(
        self, library: ModelLibrary, disk: ModelDisk, *, pace: Pace | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._library = library
        self._disk = disk
        self._pace = pace or Pace(0)
        self._patience_s = patience_s
        self._running: dict[str, _Shared] = {}

    def runs(self, content: str) -> bool:
        """Whether a model of this content is on its way."""
        return content in self._running

    async def fetch(self, wanted: Wanted, tell: Tell) -> Path:
        """Where the model lies, once it does. Several who want the same share one fetch; it ends with the last of them.

        Raises FetchFailed, NoDisk: one line.
        """
        if wanted.content is not None and (here := self._library.find(wanted.content.sha256)) is not None:
            return here.path
        shared = self._running.get(wanted.key)
        if shared is None:
            if len(self._running) >= MAX_FETCHES:
                raise FetchFailed(f"{MAX_FETCHES} models are on their way here already; try again later")
            shared = self._running[wanted.key] = _Shared()
            shared.task = asyncio.create_task(self._run(wanted, shared), name=f"fetch {wanted.model}")
        elif shared.last is not None:
            tell(replace(shared.last, model=wanted.model, quantization=wanted.quantization))
        shared.hearers.append(tell)
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.hearers.remove(tell)
            if not shared.hearers and not shared.task.done():
                shared.task.cancel()
                await asyncio.gather(shared.task, return_exceptions=True)

    async def _run(self, wanted: Wanted, shared: _Shared) -> Path:
        began = time.monotonic()
        log.info("model.fetch_started", model=wanted.model, sources=[one.name for one in wanted.sources])
        try:
            path = await self._fetch(wanted, shared.tell)
        finally:
            self._running.pop(wanted.key, None)
        log.info("model.fetch_complete", model=wanted.model, path=str(path), seconds=round(time.monotonic() - began, 1))
        return path

    async def _fetch(self, wanted: Wanted, tell: Tell) -> Path:
        parts = await self._parts(wanted)
        folder = self._disk.fetching / wanted.key
        partials = [PartialFile(folder, one) for one in parts]
        try:
            for one in partials:
                await asyncio.to_thread(one.open)
            needed = sum(max(0, one.part.size_bytes - one.offset) for one in partials) or wanted.size_bytes
            await asyncio.to_thread(self._disk.check, needed, wanted.model)
            progress = _Progress(wanted, partials, tell)
            progress.came(wanted.sources[0].name)
            for one in partials:
                await Transfer(
                    one,
                    wanted.sources,
                    disk=self._disk,
                    pace=self._pace,
                    came=progress.came,
                    patience_s=self._patience_s,
                ).run()
            return await asyncio.to_thread(self._place, wanted, partials)
        except OSError as error:
            raise FetchFailed(f"{self._disk.folder}: {error.strerror or error}; check the models folder") from None
        finally:
            for one in partials:
                one.close()

    async def _parts(self, wanted: Wanted) -> tuple[FilePart, ...]:
        """As its content says, else as the first source that answers lists them."""
        if wanted.content is not None and wanted.content.parts:
            try:
                check_content(wanted.content)
            except BadContent as error:
                raise FetchFailed(f"{wanted.model}: {error}") from None
            return wanted.content.parts
        reasons: list[str] = []
        for source in wanted.sources:
            for attempt in range(LISTING_TRIES):
                try:
                    return await source.listing()
                except SourceRefused as error:
                    reasons.append(str(error))
                    break
                except SourceBroke as error:
                    if attempt == LISTING_TRIES - 1:
                        reasons.append(str(error))
                    await asyncio.sleep(0.2 * 2**attempt)
        raise FetchFailed(f"{wanted.model}: {'; '.join(reasons) or 'no source is named'}")

    def _place(self, wanted: Wanted, partials: Sequence[PartialFile]) -> Path:
        """All are whole: they take their places, what a scan looks for last. Blocks. Raises FetchFailed, OSError."""
        hashes = {one.part.name: one.sha256 for one in partials}
        content = content_of(
            FilePart(name=one.part.name, size_bytes=one.offset, sha256=hashes[one.part.name]) for one in partials
        )
        if wanted.content is not None and content.sha256 != wanted.content.sha256:
            for one in partials:
                one.discard()
            raise FetchFailed(f"{wanted.model}: what came is not {wanted.content.sha256[:16]}…, and is not kept")
        names = local_names(content, wanted.model, wanted.quantization)
        is_folder = not entry_of(list(names.values()))
        targets = _targets(
            self._library.folder, names, content.sha256, folder_name(wanted.model, wanted.quantization), is_folder
        )
        by_name = {names[one.part.name]: one for one in partials}
        for name in entry_last(list(by_name)):
            targets[name].parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            by_name[name].finish(targets[name])
            self._library.cache.note(targets[name], hashes[by_name[name].part.name])
        shutil.rmtree(self._disk.fetching / wanted.key, ignore_errors=True)
        entry = targets[entry_last(list(by_name))[-1]]
        return entry.parent if is_folder else entry


def _targets(folder: Path, names: dict[str, str], sha256: str, own: str, is_folder: bool) -> dict[str, Path]:
    """Where each file goes, by its name there. Another model's file of the same name stays where it is."""
    for place in (folder, folder / sha256[:12]):
        base = place / own if is_folder else place
        found = {name: base / name for name in names.values()}
        if not any(one.exists() for one in found.values()):
            break
    return found


class _Progress:
    """What is told of a fetch, now and then, and at its end."""

    def __init__(self, wanted: Wanted, partials: Sequence[PartialFile], tell: Tell) -> None:
        self._wanted = wanted
        self._partials = partials
        self._tell = tell
        self._said_at = 0.0

    def came(self, source: str) -> None:
        """A block more is here."""
        now = time.monotonic()
        done = sum(one.offset for one in self._partials)
        total = sum(one.part.size_bytes for one in self._partials) or self._wanted.size_bytes
        if now - self._said_at < SAID_EVERY_S and done < total:
            return
        self._said_at = now
        self._tell(
            FetchProgress(
                model=self._wanted.model,
                quantization=self._wanted.quantization,
                content=self._wanted.content.sha256 if self._wanted.content is not None else "",
                done_bytes=done,
                total_bytes=max(done, total),
                source=source,
            )
        )
