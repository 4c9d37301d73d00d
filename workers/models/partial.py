"""A file on its way: what has come so far, and a journal by which it goes on after a restart. Blocks.

``NAME.part`` holds the bytes, ``NAME.journal`` the hash of each block of 4 MiB that was written. Whoever goes on reads
what is there, block by block, as far as it is what the journal says; the rest is fetched again.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import IO

from protos.contract.files.content import UNFINISHED, FilePart

BLOCK_BYTES = 4 * 2**20

JOURNAL = ".journal"


class PartialFile:
    """The first ``offset`` bytes of ``part``, in ``folder``. To be closed."""

    def __init__(self, folder: Path, part: FilePart) -> None:
        self.part = part
        self.path = folder / f"{part.name}{UNFINISHED}"
        self._journal = folder / f"{part.name}{JOURNAL}"
        self.offset = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        """Go on where an earlier attempt ended, or begin. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
        head, *hashes = self._read_journal()
        good: list[str] = []
        if head == self._head():
            for expected in hashes:
                block = _read(self._file, BLOCK_BYTES)
                if not block or hashlib.sha256(block).hexdigest() != expected:
                    break
                good.append(expected)
                self._digest.update(block)
                self.offset += len(block)
        self._file.truncate(self.offset)
        self._file.seek(self.offset)
        self._journal.write_text("".join(f"{line}\n" for line in (self._head(), *good)))

    def write(self, block: bytes) -> None:
        """The next bytes: whole blocks, but for the last. Raises OSError."""
        assert self._file is not None
        at = 0
        while at < len(block):
            at += self._file.write(memoryview(block)[at:])
        os.fsync(self._file.fileno())
        self._digest.update(block)
        self.offset += len(block)
        with self._journal.open("a") as journal:
            journal.write(f"{hashlib.sha256(block).hexdigest()}\n")

    @property
    def sha256(self) -> str:
        """Of what is here."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """What is here stays, for another attempt."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Nothing of it stays. Raises OSError."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)
        self.offset, self._digest = 0, hashlib.sha256()

    def finish(self, target: Path) -> None:
        """It is whole: it takes its place in one step. Raises OSError."""
        self.close()
        self.path.replace(target)
        self._journal.unlink(missing_ok=True)

    def _head(self) -> str:
        """What the journal is of; another content under the same name begins anew."""
        return f"{self.part.sha256 or '-'} {self.part.size_bytes} {BLOCK_BYTES}"

    def _read_journal(self) -> list[str]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if lines := self._journal.read_text().splitlines():
                return lines
        return [""]


def _read(file: IO[bytes], most: int) -> bytes:
    """As much as there is, up to ``most``: a raw file may give less at once."""
    found = bytearray()
    while len(found) < most and (more := file.read(most - len(found))):
        found += more
    return bytes(found)
