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
    return _most(package_modules(folder))


def longest_module(folder: Path) -> tuple[str, int]:
    """The module with the most lines, and how many those are."""
    return _most({f"{part}/{name}": lines for part in PARTS for name, lines in module_lines(folder / part).items()})


def package_modules(folder: Path) -> Mapping[str, int]:
    """Of the checkout in this folder: how many modules each package holds, ``__init__`` not counted."""
    modules = (path for part in PARTS for path in _modules(folder / part) if path.name != "__init__.py")
    return Counter(path.parent.relative_to(folder).as_posix() for path in modules)


def module_lines(part: Path) -> Mapping[str, int]:
    """How many lines each module below this folder has."""
    return {path.relative_to(part).as_posix(): _lines(path) for path in _modules(part)}


def _most(counts: Mapping[str, int]) -> tuple[str, int]:
    return max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))


def _modules(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if not path.stem.endswith(("_pb2", "_pb2_grpc")))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
