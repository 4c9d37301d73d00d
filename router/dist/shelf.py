"""The wheels beside the head's own: what pools without internet install from. A folder of files, and nothing else."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from router.errors import ConfigError

MAX_FILES = 2000
MAX_FILE_BYTES = 2 * 2**30

WHEEL_NAME = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl")
"""PEP 427; also what keeps a request from naming anything outside the folder."""

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file. ``sha256`` in hex."""

    name: str
    size_bytes: int
    sha256: str


def shelf_folder(state_dir: str) -> Path:
    """Beside the router's state where that is a folder, else at the system's place for application data."""
    folder = "" if state_dir.startswith(("redis://", "rediss://")) else state_dir
    return Path(folder or platformdirs.user_data_dir("allsorts")).expanduser() / "wheels"


class Shelf:
    """Wheels by name. Blocks; hashes are computed once for each state of a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[tuple[str, int, int], Package] = {}

    def packages(self) -> list[Package]:
        """What there is, by name."""
        try:
            entries = sorted(os.scandir(self.folder), key=lambda one: one.name)[:MAX_FILES]
        except FileNotFoundError:
            return []
        found = {}
        for one in entries:
            if WHEEL_NAME.fullmatch(one.name) and one.is_file(follow_symlinks=False):
                about = one.stat()
                key = (one.name, about.st_size, about.st_mtime_ns)
                found[key] = self._known.get(key) or read_package(Path(one.path))
        self._known = found
        return list(found.values())

    def path(self, name: str) -> Path | None:
        """Where a wheel lies; None when it is not here."""
        path = self.folder / name
        return path if WHEEL_NAME.fullmatch(name) and path.is_file() and not path.is_symlink() else None

    def add(self, sources: Iterable[Path]) -> list[str]:
        """Copy wheels, and those in folders, here; their names. A name that is there is replaced as a whole.

        Raises ConfigError for what is no wheel, and when there would be too many.
        """
        files = [file for one in sources for file in (sorted(one.glob("*.whl")) if one.is_dir() else (one,))]
        if not files:
            raise ConfigError("no wheels there: name .whl files, or folders that hold some")
        for file in files:
            if not WHEEL_NAME.fullmatch(file.name) or not file.is_file():
                raise ConfigError(f"{file}: not a wheel; make wheels with: pip download --only-binary :all: …")
            if file.stat().st_size > MAX_FILE_BYTES:
                raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES // 2**30} GiB")
        names = {one.name for one in self.packages()} | {one.name for one in files}
        if len(names) > MAX_FILES:
            raise ConfigError(f"{self.folder} would hold {len(names)} wheels, more than {MAX_FILES}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            fresh = self.folder / f".{file.name}.new"
            shutil.copyfile(file, fresh)
            fresh.replace(self.folder / file.name)
        return [one.name for one in files]

    def remove(self, names: Iterable[str]) -> list[str]:
        """Delete wheels; the names of those that were there."""
        gone = []
        for name in names:
            if (path := self.path(name)) is not None:
                path.unlink()
                gone.append(name)
        return gone


def read_package(path: Path) -> Package:
    """A file's name, size and hash."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
            size += len(part)
    return Package(name=path.name, size_bytes=size, sha256=digest.hexdigest())
