"""Who takes what of a machine's cores and memory: each worker says so to its neighbours, as long as it lives.

One file per worker, locked by it: a file that nobody holds tells of nobody. Weights that are mapped from a file count
as free memory for the system, so that two large models would both seem to fit; the neighbours' word is what tells.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import structlog

from workers.errors import WorkerError
from workers.neighbours.place import lock_file, made

log = structlog.get_logger(__name__)

GIB = 2**30
SUFFIX = ".share"
LOCK = "shares.lock"
MAX_BYTES = 64 * 1024
"""Of a neighbour's file; what is longer was not written by a worker."""

AGREE_WITHIN_S = 5.0
"""Nobody holds the lock longer than it takes to read a few small files."""


class NoRoom(WorkerError):
    """Not enough memory is left by the owner's cap, or by what the neighbours take."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker takes: cores that it computes on, and bytes of memory by model. ``sharing``: the cores are its
    part of what is there, and fewer once there are more who share.
    """

    name: str
    cores: int = 0
    sharing: bool = False
    memory: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of the machine, and of this worker by its owner; 0: not known, or no cap."""

    cores: int = 0
    memory_bytes: int = 0  # that models of all workers may take; 0 also where the system itself tells what is taken
    max_cores: int = 0
    max_memory_bytes: int = 0


def cores_for(bounds: Bounds, others: Sequence[Share], *, asked: int, default: int) -> int:
    """How many cores to compute on beside ``others``. What was asked for counts, up to the owner's cap; else the
    default, at most an equal part of what those leave who asked for theirs, and one in any case: two who spin for one
    another on one core are slower together than either alone.

    >>> cores_for(Bounds(cores=8), [Share(name="a", cores=5)], asked=0, default=8)
    3
    >>> cores_for(Bounds(cores=8), [Share(name="a", cores=8, sharing=True)], asked=0, default=8)
    4
    >>> cores_for(Bounds(cores=8, max_cores=2), [], asked=4, default=8)
    2
    """
    cap = bounds.max_cores or max(asked, default, 1)
    if asked:
        return min(asked, cap)
    fixed = sum(one.cores for one in others if not one.sharing)
    sharers = 1 + sum(one.sharing and one.cores > 0 for one in others)
    part = (bounds.cores - fixed) // sharers if bounds.cores else default
    return max(1, min(default, part, cap))


def why_no_room(bounds: Bounds, mine: Share, others: tuple[Share, ...], model: str, needs: int) -> str:
    """One line, empty when ``needs`` bytes more are there. Pure."""
    held = sum(size for name, size in mine.memory.items() if name != model)
    if bounds.max_memory_bytes and held + needs > bounds.max_memory_bytes:
        taken = f", {held / GIB:.1f} of them taken by its other models" if held else ""
        return (
            f"{model} needs {needs / GIB:.1f} GiB of memory and this worker may take "
            f"{bounds.max_memory_bytes / GIB:.1f}{taken} (--max-memory); lower --context or --slots, or raise the cap"
        )
    theirs = {one.name: sum(one.memory.values()) for one in others if one.memory}
    left = bounds.memory_bytes - sum(theirs.values()) - held
    if not bounds.memory_bytes or not theirs or needs <= left:
        return ""
    who = ", ".join(f"{name} {size / GIB:.1f}" for name, size in theirs.items())
    return (
        f"{model} needs {needs / GIB:.1f} GiB of memory and {max(left, 0) / GIB:.1f} of "
        f"{bounds.memory_bytes / GIB:.1f} are left by this machine's other workers ({who}); stop one, "
        "lower --context or --slots, or choose a smaller quantization"
    )


class Shares:
    """The share of one worker among the others of ``folder``. Blocks for as long as small files take."""

    def __init__(self, folder: Path, name: str, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._mine = Share(name=name)
        self._file: IO[bytes] | None = None

    def take_cores(self, *, asked: int, default: int) -> int:
        """How many cores to compute on, by agreement with who is here; they are this worker's from now on."""
        with self._agreeing():
            others = self.others()
            granted = cores_for(self._bounds, others, asked=asked, default=default)
            fixed = sum(one.cores for one in others if not one.sharing)
            if self._bounds.cores and granted + fixed > self._bounds.cores:
                log.warning("cores.shared", cores=granted, neighbours=fixed, of=self._bounds.cores)
            self._tell(Share(name=self._mine.name, cores=granted, sharing=not asked, memory=self._mine.memory))
        return granted

    def take_memory(self, model: str, needs: int) -> None:
        """``needs`` bytes for a model, instead of what it had. Raises NoRoom."""
        with self._agreeing():
            if why := why_no_room(self._bounds, self._mine, self.others(), model, needs):
                raise NoRoom(why)
            memory = {**self._mine.memory, model: needs}
            self._tell(msgspec.structs.replace(self._mine, memory=memory))

    def give_back(self, model: str) -> None:
        """The model is gone."""
        if model not in self._mine.memory:
            return
        memory = {name: size for name, size in self._mine.memory.items() if name != model}
        self._tell(msgspec.structs.replace(self._mine, memory=memory))

    def others(self) -> tuple[Share, ...]:
        """What the neighbours say; who does not live, or does not speak as a worker does, says nothing."""
        return tuple(
            _told(path for path in self._folder.glob(f"*{SUFFIX}") if self._file is None or path != self._path)
        )

    def close(self) -> None:
        """Take nothing any more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._file.close()
            self._file = None

    @property
    def _path(self) -> Path:
        return self._folder / f"{os.getpid()}-{id(self):x}{SUFFIX}"

    @contextlib.contextmanager
    def _agreeing(self) -> Iterator[None]:
        """One at a time, so that no two take the same; without the lock where it cannot be had."""
        try:
            file = lock_file(made(self._folder) / LOCK)
        except OSError:
            yield
            return
        with file:
            deadline = time.monotonic() + AGREE_WITHIN_S
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.01)
            yield

    def _tell(self, share: Share) -> None:
        self._mine = share
        try:
            if self._file is None:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o644)
                self._file = os.fdopen(descriptor, "w+b")
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            self._file.truncate()
            self._file.write(msgspec.json.encode(share))
            self._file.flush()
        except OSError as error:
            log.warning("share.not_told", reason=str(error))


def living(folder: Path) -> tuple[int, ...]:
    """Process ids of the workers that say something here, by the names of their files."""
    names = (path.name.partition("-")[0] for path in folder.glob(f"*{SUFFIX}"))
    return tuple(int(one) for one in names if one.isdigit())


def cores_now(folder: Path, cores: int, most: int) -> int:
    """The part of a machine's ``cores`` that this process has beside its neighbours, at most ``most``. Blocks for as
    long as small files take.
    """
    own = f"{os.getpid()}-"
    others = _told(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(own))
    return cores_for(Bounds(cores=cores), tuple(others), asked=0, default=max(1, most))


def _told(paths: Iterable[Path]) -> Iterator[Share]:
    for path in sorted(paths):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            yield from (msgspec.json.decode(told, type=Share) for told in _held(path))


def _held(path: Path) -> list[bytes]:
    """What a living worker wrote; a file that nobody holds is taken away, if it is this user's."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            told = file.read(MAX_BYTES + 1)
            return [told] if len(told) <= MAX_BYTES else []
        if file.read(1):  # an empty one is just being made
            path.unlink()
    return []
