"""Decision records as the command line reads them: from the router's answers, and from the files its replicas write."""

from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigError
from router.scheduling.explain.decision_files import family
from router.scheduling.explain.record import DecisionRecord


class Refused(msgspec.Struct):
    """Why a request was refused, worker by worker."""

    code: str
    message: str
    exclusions: list[dict[str, str]] = []


class Explanation(msgspec.Struct):
    """What ``/admin/explain`` answers."""

    request_id: str
    records: list[DecisionRecord]
    refused: Refused | None = None
    drafts: list[dict[str, Any]] = []  # how targets get on with their drafts now


def read_records(path: Path) -> list[DecisionRecord]:
    """Records from a file of JSON lines and from its kin: what other replicas wrote, and what was turned over. A line
    may also be what ``/admin/explain`` answers. A last line that is still being written is left out.

    Raises ConfigError naming the file, the line and what is wrong in it.
    """
    try:
        files = family(path) if path.parent.is_dir() else []
        found: list[DecisionRecord] = []
        for file in files or [path]:
            found += _of_file(file)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be read ({error.strerror}); check the path") from None
    return found


def _of_file(path: Path) -> list[DecisionRecord]:
    found: list[DecisionRecord] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found += _of_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if number > 1 and not line.endswith(b"\n") and str(error) == _CUT_SHORT:
                    break
                raise ConfigError(f"{path}, line {number}: {error}") from None
            except RecursionError:
                raise ConfigError(f"{path}, line {number}: nested too deeply to be a record") from None
    return found


_CUT_SHORT = "Input data was truncated"
"""What msgspec says of half a document."""


def _of_line(line: bytes) -> list[DecisionRecord]:
    if b'"records"' in line[:200]:
        return msgspec.json.decode(line, type=Explanation).records
    return [msgspec.json.decode(line, type=DecisionRecord)]
