"""Where the workers of one machine meet: a folder that every user of it may add files to."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

VARIABLE = "ALLSORTS_MACHINE_DIR"
"""Names another folder: for containers that share a machine and not its /tmp, and for tests."""


def meeting_place(environment: Mapping[str, str] | None = None) -> Path:
    """The folder; nothing is made yet. ``/tmp`` and not this user's own: another user's worker computes on the same
    cores.
    """
    named = (os.environ if environment is None else environment).get(VARIABLE, "")
    if named:
        return Path(named)
    shared = Path("/tmp")  # noqa: S108 - meant to be shared; what lies there is a lock or is read with distrust
    return (shared if shared.is_dir() else Path(tempfile.gettempdir())) / "allsorts"


def made(folder: Path) -> Path:
    """The folder, made where it is missing: every user may add to it and only take away what is their own (as in /tmp).

    Raises OSError, also where somebody put something else there.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(f"{folder} is no folder: remove it, or name another one with {VARIABLE}")
    return folder


def lock_file(path: Path) -> IO[bytes]:
    """A file to be locked, made where it is missing; a link is not followed. Raises OSError.

    Opened for reading: that is enough for a lock, and another user's file gives no more.
    """
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644))
    raise OSError(f"{path} comes and goes")


def file_is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one of that name: else it was taken away, and its lock keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def left(folder: Path) -> None:
    """Take away the locks of this user that nobody holds, and the folder where nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.lock"):
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()  # whoever gets this very file from now on sees that it is no longer the one
        folder.rmdir()
