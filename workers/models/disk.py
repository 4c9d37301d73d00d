"""Room on the disk for models that come from elsewhere: what the owner leaves to them. Blocks."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from workers.errors import WorkerError

FETCHING = ".fetching"
"""Below the models folder, so that what has come takes its place without being copied."""

KEEP_FREE_BYTES = 10 * 2**30
STALE_S = 7 * 86_400.0


class NoDisk(WorkerError):
    """There is no room; one line, with what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDisk:
    """``folder``: of models. ``keep_free_bytes`` of the disk stay free; ``max_bytes``: of the folder, 0: no bound."""

    folder: Path
    keep_free_bytes: int = KEEP_FREE_BYTES
    max_bytes: int = 0

    @property
    def fetching(self) -> Path:
        """Where files are until they are whole."""
        return self.folder / FETCHING

    def room_bytes(self) -> int:
        """That may still be put there. Raises OSError."""
        room = shutil.disk_usage(_existing(self.folder)).free - self.keep_free_bytes
        if self.max_bytes:
            room = min(room, self.max_bytes - _size(self.folder))
        return max(0, room)

    def check(self, needed_bytes: int, what: str) -> None:
        """Raises NoDisk unless so many bytes more have room."""
        try:
            room = self.room_bytes()
        except OSError as error:
            raise NoDisk(f"{self.folder}: {error.strerror or error}; check the models folder") from None
        if needed_bytes > room:
            bound = (
                f"{_told(self.max_bytes)} are allowed there"
                if self.max_bytes
                else f"{_told(self.keep_free_bytes)} stay free"
            )
            raise NoDisk(
                f"no room for {what}: {_told(needed_bytes)} more are needed in {self.folder}, {_told(room)} are left "
                f"({bound}); take something away with `allsorts models remove`, or change --keep-free or "
                "--max-models-disk"
            )

    def forget_stale(self) -> None:
        """Take away what was begun long ago and never went on. Raises OSError."""
        if not self.fetching.is_dir():
            return
        for folder in self.fetching.iterdir():
            touched = max((one.stat().st_mtime for one in (folder, *folder.rglob("*"))), default=0.0)
            if time.time() - touched > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())


def _told(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
