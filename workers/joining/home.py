"""What a worker keeps on a machine and where: written while it joins and serves, taken away when it leaves."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

NAME = "allsorts"
BY_ITSELF = {
    "pools": "keys and certificates",
    "workers": "names that routers gave",
    "logs": "logs",
    "worker.log": "logs",
    "paused": "the owner's pause",
    "benchmarks": "what was measured",
    "cache": "what was measured",
    "wheels": "compiled engines",
    "made.json": "",
    "model-hashes.json": "",
}
"""What this program writes into its folders, in words for its owner; anything else in them is the owner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The folders of one owner's workers. ``made.json`` in ``state`` lists the folders that were not there before."""

    state: Path
    cache: Path
    models: Path

    @classmethod
    def of(cls, state_dir: Path | None = None, models: Path | None = None) -> "Home":
        """A folder that was named holds everything; else each thing lies where this system has its like."""
        models = models or Path(platformdirs.user_data_dir(NAME)) / "models"
        if state_dir is not None:
            state = state_dir.absolute()
            return cls(state=state, cache=state / "cache", models=models)
        return cls(
            state=Path(platformdirs.user_state_dir(NAME)), cache=Path(platformdirs.user_cache_dir(NAME)), models=models
        )

    def log(self, node: str) -> Path:
        """Of the worker of this name."""
        return self.state / "logs" / f"{''.join(one if one.isalnum() or one in '-_.' else '_' for one in node)}.log"

    def prepare(self, *more: Path) -> None:
        """Make the folders (and ``more``), private to their owner, and note which were not there. Raises OSError."""
        missing = [one for folder in (self.state, self.cache, *more) for one in _missing(folder)]
        for folder in (self.state, self.cache, *more):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if fresh := [one for one in map(str, missing) if one not in self._noted()]:
            self._ledger.write_bytes(msgspec.json.encode([*self._noted(), *dict.fromkeys(fresh)]))

    def clear(self, *, keep_keys: bool = False) -> list[str]:
        """Take away what this program wrote; the answer says what that was. Raises OSError.

        ``keep_keys``: whoever joins again needs no token, so the folders that hold them stay too.
        """
        noted = self._noted()
        gone = [
            what
            for folder in (self.cache, self.state)
            for name, what in BY_ITSELF.items()
            if not (keep_keys and name in ("pools", "made.json")) and _removed(folder / name)
        ]
        for folder in sorted(map(Path, noted), key=lambda one: len(one.parts), reverse=True):
            with contextlib.suppress(OSError):  # not empty: something of the owner's lies there
                folder.rmdir()
        return [one for one in dict.fromkeys(gone) if one]

    def owners(self) -> list[Path]:
        """What lies here and is not this program's: models, and what somebody put between."""
        left = {
            entry
            for folder in (self.state, self.cache)
            if folder.is_dir()
            for entry in folder.iterdir()
            if entry.name not in BY_ITSELF and entry != self.cache
        }
        if self.models.is_dir() and any(self.models.iterdir()):
            left.add(self.models)
        return sorted(left)

    @property
    def _ledger(self) -> Path:
        return self.state / "made.json"

    def _noted(self) -> list[str]:
        try:
            return msgspec.json.decode(self._ledger.read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            return []


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, from the top."""
    return [one for one in reversed((folder, *folder.parents)) if not one.exists()]


def _removed(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
