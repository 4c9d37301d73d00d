"""Where decision records lie on disk: one file for each router replica, and what each was before it turned over.

``records.jsonl`` is rank 0's, ``records.jsonl.rank1`` that of rank 1; ``.1`` after a name is its older half.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec


def of_rank(path: Path, rank: int) -> Path:
    """The file that the router replica of this rank writes."""
    return path.with_name(f"{path.name}.rank{rank}") if rank else path


def turned_over(path: Path) -> Path:
    """What ``path`` becomes when it is full."""
    return path.with_name(f"{path.name}.1")


def family(path: Path) -> list[Path]:
    """All files of ``path``, those of every rank, the older half first. Raises OSError when the folder is not there."""
    kin = re.compile(re.escape(path.name) + r"(?:\.rank(\d+))?(\.1)?")
    found = [(name, one) for one in path.parent.iterdir() if (name := kin.fullmatch(one.name))]
    found.sort(key=lambda pair: (int(pair[0][1] or 0), pair[0][2] is None))
    return [one for _, one in found]


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that may be growing: a last one without its line break is not there yet."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


class RecordFiles:
    """What was written about one request, by whichever replica of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of_request(self, request_id: str) -> list[bytes]:
        """Its records as JSON, first attempt first; none when the files cannot be read. Reads every file: seconds."""
        mark = b'"request_id":' + msgspec.json.encode(request_id)
        try:
            return [line.strip() for path in family(self._path) for line in whole_lines(path) if mark in line]
        except OSError:
            return []
