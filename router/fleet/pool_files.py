"""Which models' files lie on which machines, and what is on its way there: as the workers of this replica tell it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protos.contract.events import FetchProgress, FilesHeld
from protos.contract.files.content import HeldModel, ModelContent
from protos.contract.ids import WorkerId

MAX_FETCHES = 64
"""Kept of one worker; of more, those told longest ago are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """One model by its content, under the names it goes by, and who holds it."""

    held: HeldModel
    workers: tuple[WorkerId, ...]


class PoolFiles:
    """What workers hold, until they are gone. Synchronous."""

    def __init__(self) -> None:
        self._held: dict[WorkerId, FilesHeld] = {}
        self._fetches: dict[WorkerId, dict[tuple[str, str], FetchProgress]] = {}

    # -- what workers say ------------------------------------------------------------------------------

    def tell_held(self, worker_id: WorkerId, held: FilesHeld) -> None:
        """All that lies there now; what was said before is forgotten."""
        self._held[worker_id] = held

    def tell_fetch(self, worker_id: WorkerId, progress: FetchProgress) -> None:
        """How far one fetch is. One that is done is forgotten: the files are among those held."""
        fetches = self._fetches.setdefault(worker_id, {})
        key = (progress.model, progress.quantization)
        fetches.pop(key, None)
        if progress.error or not progress.total_bytes or progress.done_bytes < progress.total_bytes:
            fetches[key] = progress
        while len(fetches) > MAX_FETCHES:
            del fetches[next(iter(fetches))]

    def forget_fetch(self, worker_id: WorkerId, model: str, quantization: str) -> None:
        """What was said of it is over."""
        self._fetches.get(worker_id, {}).pop((model, quantization), None)

    def forget(self, worker_id: WorkerId) -> None:
        """Its session is over: nothing can be had from there."""
        self._held.pop(worker_id, None)
        self._fetches.pop(worker_id, None)

    # -- what the router asks --------------------------------------------------------------------------

    def held_by(self, worker_id: WorkerId) -> FilesHeld:
        """What one worker holds; nothing, where it says nothing."""
        return self._held.get(worker_id, FilesHeld())

    def tells(self, worker_id: WorkerId) -> bool:
        """Whether a worker has said what it holds, be it nothing."""
        return worker_id in self._held

    def fetches_of(self, worker_id: WorkerId) -> tuple[FetchProgress, ...]:
        """What is on its way there, or has failed to come."""
        return tuple(self._fetches.get(worker_id, {}).values())

    def holders(self, sha256: str) -> tuple[WorkerId, ...]:
        """Who has this file (a part of a model) and shares it."""
        return tuple(
            worker_id for worker_id, held in self._held.items() if held.shares and sha256 in _files(held.models)
        )

    def names_of(self, sha256: str) -> set[str]:
        """The public names of the models that have this file as a part."""
        return {
            one.model
            for held in self._held.values()
            for one in held.models
            if any(part.sha256 == sha256 for part in one.content.parts)
        }

    def size_of(self, sha256: str) -> int | None:
        """Bytes of this file; None where nobody has it."""
        for held in self._held.values():
            if (size := _files(held.models).get(sha256)) is not None:
                return size
        return None

    def content(self, sha256: str) -> ModelContent | None:
        """A model's files by its identity; None where nobody has it."""
        return next((one.content for one in self._all() if one.content.sha256 == sha256), None)

    def copies(self, model: str = "", quantization: str = "") -> list[Copies]:
        """Every content of a model (empty: of all models) that lies anywhere, by name, with who holds it."""
        found: dict[tuple[str, str, str], tuple[HeldModel, list[WorkerId]]] = {}
        for worker_id, held in self._held.items():
            for one in held.models:
                if model in ("", one.model) and quantization in ("", one.quantization):
                    key = (one.model, one.quantization, one.content.sha256)
                    found.setdefault(key, (one, []))[1].append(worker_id)
        return [Copies(held=found[key][0], workers=tuple(found[key][1])) for key in sorted(found)]

    def _all(self) -> Iterator[HeldModel]:
        return (one for held in self._held.values() for one in held.models)


def _files(models: Iterable[HeldModel]) -> dict[str, int]:
    return {part.sha256: part.size_bytes for one in models for part in one.content.parts}
