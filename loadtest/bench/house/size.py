"""How large the house is: lines, modules of a package, lines of a module. Tests and generated stubs do not count."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

PARTS = ("router", "workers", "protos", "loadtest")


def lines_of(folder: Path, *parts: str) -> int:
    """All lines of the modules below these folders: code, docstrings, comments and blanks."""
    return sum(_lines(path) for part in parts for path in _modules(folder / part))


def largest_package(folder: Path) -> tuple[str, int]:
    """The package with the most modules, ``__init__`` not counted, and how many those are."""
    modules = (path for path in _all(folder) if path.name != "__init__.py")
    return _most(Counter(path.parent.relative_to(folder).as_posix() for path in modules))


def longest_module(folder: Path) -> tuple[str, int]:
    """The module with the most lines, and how many those are."""
    return _most({path.relative_to(folder).as_posix(): _lines(path) for path in _all(folder)})


def _most(counts: Mapping[str, int]) -> tuple[str, int]:
    return max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))


def _all(folder: Path) -> Iterator[Path]:
    return (path for part in PARTS for path in _modules(folder / part))


def _modules(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if not path.stem.endswith(("_pb2", "_pb2_grpc")))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
