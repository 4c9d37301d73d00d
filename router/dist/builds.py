"""Engines that one machine compiled, offered to its like: a wheel under the key of all that decides where it runs.

The key is worked out by the machine that builds and by each that asks (``workers/installing/llama_plan.py``); the head
compares, and offers only what its operator put here with `allsorts dist add`.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from router.dist.shelf import WHEEL_NAME, Package, read_package
from router.errors import ConfigError

FOLDER = "builds"
NOTE = "build.json"
MAX_BUILDS = 200

_KEY = re.compile(r"[0-9a-f]{16,64}")


class BuildNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine writes beside a wheel that it compiled."""

    key: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """One of them."""

    note: BuildNote
    package: Package


class Builds:
    """Builds by key, below the shelf's folder. Blocks."""

    def __init__(self, shelf: Path) -> None:
        self._folder = shelf / FOLDER
        self._known: dict[tuple[str, int, int], Package] = {}

    def all(self) -> list[Build]:
        """What there is, by key."""
        found, known = [], {}
        for note_file in sorted(self._folder.glob(f"*/{NOTE}"))[:MAX_BUILDS]:
            note, wheel = _read_note(note_file), _wheel_in(note_file.parent)
            if note is None or wheel is None or note.key != note_file.parent.name:
                continue
            about = wheel.stat()
            state = (str(wheel), about.st_size, about.st_mtime_ns)
            known[state] = self._known.get(state) or read_package(wheel)
            found.append(Build(note, known[state]))
        self._known = known
        return found

    def path(self, key: str, name: str) -> Path | None:
        """Where a build's wheel lies; None when it is not here."""
        path = self._folder / key / name
        fits = _KEY.fullmatch(key) and WHEEL_NAME.fullmatch(name)
        return path if fits and path.is_file() and not path.is_symlink() else None

    def add(self, source: Path) -> str:
        """Copy a folder that a machine built into; what it is. Replaced as a whole. Raises ConfigError."""
        note, wheel = _read_note(source / NOTE), _wheel_in(source)
        if note is None or wheel is None or not _KEY.fullmatch(note.key):
            raise ConfigError(f"{source}: {NOTE} or its wheel is missing or damaged; copy the whole folder again")
        fresh, target = self._folder / f".{note.key}.new", self._folder / note.key
        if len(list(self._folder.glob("*"))) >= MAX_BUILDS and not target.exists():
            raise ConfigError(f"{self._folder} holds {MAX_BUILDS} builds, its limit; delete some first")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        shutil.copyfile(wheel, fresh / wheel.name)
        (fresh / NOTE).write_bytes(msgspec.json.encode(note))
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)
        return note.about or note.key

    def remove(self, key: str) -> bool:
        """Delete one; False when it was not there."""
        if not _KEY.fullmatch(key) or not (self._folder / key).is_dir():
            return False
        shutil.rmtree(self._folder / key)
        return True


def is_build(folder: Path) -> bool:
    """Whether a folder is one that a machine built into."""
    return (folder / NOTE).is_file()


def _read_note(file: Path) -> BuildNote | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=BuildNote)
    except (OSError, msgspec.DecodeError):
        return None


def _wheel_in(folder: Path) -> Path | None:
    wheels = [one for one in folder.glob("*.whl") if WHEEL_NAME.fullmatch(one.name) and not one.is_symlink()]
    return wheels[0] if len(wheels) == 1 else None
