"""What a model is, wherever it lies and whatever its files are called there: the SHA-256 of its parts. Pure.

One file: the file's own hash, as ``sha256sum`` prints it. Several: the hash of the list ``HASH  ROLE`` of them all, in
the order of their roles. A part of a split GGUF has its number as its role, a file of a folder its name.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from protos.contract.models.model_name import parse_name

MAX_PARTS = 1024
MAX_NAME_BYTES = 200
MAX_PART_BYTES = 2**50

UNFINISHED = ".part"
"""Ends the names of files that are not whole yet; no part of a model may be called so."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadContent(ValueError):
    """What is said of a model's files cannot be: one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """One file of a model: its base name, its size, its hash in hex."""

    name: str
    size_bytes: int
    sha256: str

    @property
    def role(self) -> str:
        """What it is among its siblings, whatever it is called."""
        named = parse_name(self.name)
        return f"{named.shard:05d}-of-{named.shards:05d}" if named.shards else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContent:
    """A model by its content. ``sha256`` is its identity; ``parts`` may be left out where only that is known."""

    sha256: str
    parts: tuple[FilePart, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(one.size_bytes for one in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A model whose files lie on a machine, whole."""

    model: str
    quantization: str
    format: str
    content: ModelContent


def content_of(parts: Iterable[FilePart]) -> ModelContent:
    """The model that these files are."""
    found = tuple(sorted(parts, key=lambda one: one.role))
    return ModelContent(sha256=identity(found), parts=found)


def identity(parts: tuple[FilePart, ...]) -> str:
    """The hash of the only file, or of the list of all, in hex.

    >>> identity((FilePart(name="a.gguf", size_bytes=1, sha256="ab" * 32),)) == "ab" * 32
    True
    """
    if len(parts) == 1:
        return parts[0].sha256
    lines = sorted((one.role, one.sha256) for one in parts)
    return hashlib.sha256("".join(f"{sha256}  {role}\n" for role, sha256 in lines).encode()).hexdigest()


def check_content(content: ModelContent) -> None:
    """Raises BadContent for what must not be believed: names that lead elsewhere, hashes that are none, parts that do
    not make up the identity.
    """
    check_sha256(content.sha256)
    if len(content.parts) > MAX_PARTS:
        raise BadContent(f"a model of {len(content.parts)} files; at most {MAX_PARTS} are taken")
    for part in content.parts:
        check_name(part.name)
        check_sha256(part.sha256)
        if not 0 <= part.size_bytes <= MAX_PART_BYTES:
            raise BadContent(f"{part.name} has {part.size_bytes} bytes")
    if len({one.name.casefold() for one in content.parts}) < len(content.parts):  # macOS' disks do not tell case
        raise BadContent("two of its files have the same name")
    if content.parts and identity(content.parts) != content.sha256:
        raise BadContent(f"its files do not make up {content.sha256[:16]}…")


def check_sha256(text: str) -> None:
    """Raises BadContent for what is no SHA-256 in hex."""
    if not _SHA256.fullmatch(text):
        raise BadContent(f"{text[:80]!r} is no SHA-256 (64 characters of 0-9a-f)")


def check_name(name: str) -> None:
    """Raises BadContent for a name that is none of a file in its folder, or hides."""
    bad = (
        not name
        or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
        or not name.isprintable()
        or name.startswith(".")
        or name.endswith(UNFINISHED)
        or any(one in name for one in '/\\:"<>|?*')
    )
    if bad:
        raise BadContent(f"{name[:80]!r} cannot be the name of a model's file")
