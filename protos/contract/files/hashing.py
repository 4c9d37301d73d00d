"""SHA-256 of files, computed once for each state of a file: a model of 40 GB takes half a minute. Blocks throughout."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from protos.contract.files.content import FilePart, ModelContent, content_of
from protos.contract.files.parts import model_files

READ_BYTES = 2**20
MAX_KNOWN = 8192
"""Files whose hashes are kept; beyond it those asked for longest ago go."""


class FileChanged(OSError):
    """A file was written while it was read; its hash would be of neither state."""


def hash_file(path: Path, *, stop: Callable[[], bool] = lambda: False) -> str:
    """In hex. ``stop`` is asked between two reads. Raises OSError, InterruptedError when stopped."""
    digest, block = hashlib.sha256(), bytearray(READ_BYTES)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            if stop():
                raise InterruptedError(f"{path}: stopped")
            digest.update(view[:count])
    return digest.hexdigest()


class HashCache:
    """Hashes by path, size, time of change and inode, kept in ``file`` (None: in memory alone). For any thread."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, int, int, str]] = _read(file) if file is not None else {}

    def known(self, path: Path) -> FilePart | None:
        """Without reading the file; None where its present state was not hashed yet. Raises OSError."""
        state = _state(path)
        with self._lock:
            found = self._known.get(str(path))
        if found is None or found[:3] != state:
            return None
        return FilePart(name=path.name, size_bytes=state[0], sha256=found[3])

    def part(self, path: Path, *, stop: Callable[[], bool] = lambda: False) -> FilePart:
        """Hashed now, unless it is known. Raises OSError, FileChanged, InterruptedError."""
        if (found := self.known(path)) is not None:
            return found
        before = _state(path)
        sha256 = hash_file(path, stop=stop)
        if _state(path) != before:
            raise FileChanged(f"{path} was written to while it was read; try again")
        self.note(path, sha256)
        return FilePart(name=path.name, size_bytes=before[0], sha256=sha256)

    def note(self, path: Path, sha256: str) -> None:
        """Keep what is known already, as of a file that was just fetched. Raises OSError."""
        state = _state(path)
        with self._lock:
            self._known.pop(str(path), None)
            self._known[str(path)] = (*state, sha256)
            while len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            if self._file is not None:
                with contextlib.suppress(OSError):  # hashed again after a restart, then
                    _write(self._file, self._known)

    def content(self, path: Path, *, stop: Callable[[], bool] = lambda: False) -> ModelContent:
        """Of the model at ``path``. Raises BadModelFile, OSError, FileChanged, InterruptedError."""
        return content_of(self.part(one, stop=stop) for one in model_files(path))

    def known_content(self, path: Path) -> ModelContent | None:
        """Where all its files are known. Raises BadModelFile, OSError."""
        parts = [self.known(one) for one in model_files(path)]
        return None if None in parts else content_of(one for one in parts if one is not None)


def _state(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ino


def _read(file: Path) -> dict[str, tuple[int, int, int, str]]:
    try:
        kept = json.loads(file.read_bytes())
        return {str(path): (int(s), int(m), int(i), str(h)) for path, (s, m, i, h) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # hashed again


def _write(file: Path, known: dict[str, tuple[int, int, int, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(known))
    fresh.chmod(0o600)
    fresh.replace(file)
