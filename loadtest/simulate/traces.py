"""Traces by path: the Azure CSV format and the Mooncake JSONL format. The project commits none of them.

Azure (AzurePublicDataset, LLM inference 2023): ``TIMESTAMP,ContextTokens,GeneratedTokens``. Mooncake (FAST 2025):
one object a line with ``timestamp`` (ms), ``input_length``, ``output_length`` and ``hash_ids`` of 512-token blocks.
"""

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from loadtest.simulate.located import error_at
from loadtest.simulate.traffic import BLOCK_TOKENS

Sized = tuple[float, int, int, tuple[int, ...]]
"""Second, prompt tokens, output tokens, block hashes."""

MOONCAKE_BLOCK_TOKENS = 512
MAX_REQUESTS = 1_000_000
_AZURE = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read_trace(path: str | Path, limit: int = MAX_REQUESTS) -> list[Sized]:
    """A trace of either format, by its name's ending. Raises InputError naming file, line and field."""
    place = Path(path)
    readers: dict[str, Callable[[Path, int], list[Sized]]] = {".csv": _azure, ".jsonl": _mooncake}
    reader = readers.get(place.suffix)
    if reader is None:
        raise error_at(str(path), None, "", "is neither .csv (Azure) nor .jsonl (Mooncake)")
    try:
        found = reader(place, limit)
    except (OSError, UnicodeDecodeError) as error:
        raise error_at(
            str(path), None, "", f"cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
        ) from None
    if len(found) < 2:
        raise error_at(str(path), None, "", "holds fewer than two requests")
    if any(later[0] < earlier[0] for earlier, later in itertools.pairwise(found)):
        found.sort(key=lambda one: one[0])
    return found


def _azure(path: Path, limit: int) -> list[Sized]:
    found: list[Sized] = []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(_rows(str(path), rows), [])
        if [name.strip() for name in header] != _AZURE:
            raise error_at(str(path), 1, "", f"the header must be {','.join(_AZURE)}, not {','.join(header)[:80]}")
        for row in _rows(str(path), rows):
            if not row:
                continue
            if len(row) != len(_AZURE):
                raise error_at(str(path), rows.line_num, "", f"has {len(row)} fields instead of {len(_AZURE)}")
            at = _timestamp(str(path), rows.line_num, row[0])
            prompt = _count(str(path), rows.line_num, "ContextTokens", row[1])
            output = _count(str(path), rows.line_num, "GeneratedTokens", row[2])
            found.append((at, prompt, output, ()))
            if len(found) >= limit:
                break
    return found


def _rows(source: str, rows: Any) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise error_at(source, rows.line_num, "", f"is no CSV ({error})") from None


def _timestamp(source: str, line: int, text: str) -> float:
    whole, _, fraction = text.strip().partition(".")
    try:
        seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
        return seconds + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        raise error_at(source, line, "TIMESTAMP", f"is no time: {text!r}") from None


def _count(source: str, line: int, field: str, value: Any) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        raise error_at(source, line, field, f"must be a whole number, not {value!r}") from None
    if not 0 <= count <= 10_000_000 or isinstance(value, bool | float):
        raise error_at(source, line, field, f"must be a whole number that is not negative, not {value!r}")
    return count


def _mooncake(path: Path, limit: int) -> list[Sized]:
    found: list[Sized] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found.append(_mooncake_line(str(path), number, line))
            if len(found) >= limit:
                break
    return found


def _mooncake_line(source: str, number: int, line: str) -> Sized:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise error_at(source, number, "", f"not JSON ({str(error)[:120]})") from None
    if not isinstance(values, dict):
        raise error_at(source, number, "", "must be a JSON object")
    for field in ("timestamp", "input_length", "output_length", "hash_ids"):
        if field not in values:
            raise error_at(source, number, field, "is missing")
    at = values["timestamp"]
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e15:
        raise error_at(source, number, "timestamp", f"must be milliseconds, not {at!r}")
    hashes = values["hash_ids"]
    if not isinstance(hashes, list) or not all(isinstance(one, int) and one >= 0 for one in hashes):
        raise error_at(source, number, "hash_ids", "must be a list of whole numbers")
    prompt = _count(source, number, "input_length", values["input_length"])
    output = _count(source, number, "output_length", values["output_length"])
    per = MOONCAKE_BLOCK_TOKENS // BLOCK_TOKENS
    blocks = tuple(one * per + part for one in hashes for part in range(per))
    return at / 1000.0, prompt, output, blocks[: prompt // BLOCK_TOKENS]
