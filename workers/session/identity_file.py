"""The name a router gave this worker, kept over restarts."""

import fcntl
import re
import zlib
from pathlib import Path
from typing import IO

import msgspec

MAX_TWINS = 64


class _Saved(msgspec.Struct, frozen=True):
    worker_id: str


class IdentityFile:
    """The worker's id in its state directory. Workers alike on one machine take the files ``…-1``, ``…-2`` and so on.

    A file is held by an advisory lock while its worker lives, so that no two processes share an id.
    """

    def __init__(self, state_dir: Path, node: str, engine: str, models: tuple[str, ...]) -> None:
        name = "-".join((node, engine, *models))
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100] + f"-{zlib.crc32(name.encode()):08x}"
        folder = state_dir / "workers"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path, self._file = self._claim(folder, stem)

    @staticmethod
    def _claim(folder: Path, stem: str) -> tuple[Path, IO[bytes]]:
        for number in range(1, MAX_TWINS + 1):
            path = folder / f"{stem}-{number}.json"
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
            else:
                return path, file
        raise OSError(f"{MAX_TWINS} workers alike run from {folder} already: stop some, or choose another --state-dir")

    def read(self) -> str:
        """The id, or nothing when there is none (or the file cannot be understood)."""
        try:
            self._file.seek(0)
            return msgspec.json.decode(self._file.read(), type=_Saved).worker_id
        except msgspec.DecodeError:
            return ""

    def write(self, worker_id: str) -> None:
        """Keep the id; empty: forget it."""
        self._file.truncate(0)
        if worker_id:
            self._file.write(msgspec.json.encode(_Saved(worker_id=worker_id)))
        self._file.flush()

    def close(self) -> None:
        """Let another worker take this id."""
        self._file.close()
