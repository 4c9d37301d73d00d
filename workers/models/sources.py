"""Where a model's files can be had from, and what may go wrong there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from protos.contract.files.content import FilePart
from workers.errors import WorkerError


class FetchFailed(WorkerError):
    """The model cannot be had; one line, with what to do."""


class SourceBroke(WorkerError):
    """It broke off, or is away for now: worth another try."""


class SourceRefused(WorkerError):
    """It has no such file, or does not give it: no use in asking it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of a file, in order. ``holder``: who had them, where the source knows."""

    data: bytes
    holder: str = ""


class Source(Protocol):
    """One place that has models' files."""

    @property
    def name(self) -> str:
        """For people: "pool", or a URL without its secrets."""
        ...

    async def listing(self) -> tuple[FilePart, ...]:
        """The files of the model, where nobody named them: hash empty where it is not known, size 0 likewise.

        Raises SourceBroke, SourceRefused.
        """
        ...

    def read(self, part: FilePart, offset: int, avoid: frozenset[str]) -> AsyncIterator[Piece]:
        """The file from ``offset`` (a multiple of 4 MiB) to its end; ``avoid``: holders whose copies are damaged.

        Raises SourceBroke, SourceRefused.
        """
        ...


def no_listing(name: str) -> SourceRefused:
    """Of a source that must be told which files are wanted."""
    return SourceRefused(f"{name} has no files of that name: nobody in the pool told of the model yet")
