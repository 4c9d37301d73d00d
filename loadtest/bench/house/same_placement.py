"""Whether two checkouts decide alike: the short grid under both, every figure and every request compared exactly."""

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtest.bench import short_grid
from loadtest.bench.house.checkouts import Checkout

TIMEOUT_S = 900.0

Found = Sequence[Mapping[str, Any]]
"""What a run of the grid wrote: name, figures and requests of each cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A cell that came out otherwise. ``figures``: old and new of those that differ."""

    name: str
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    requests: int = 0
    first: str = ""

    def __str__(self) -> str:
        changed = ", ".join(f"{name} {old:.6g} -> {new:.6g}" for name, (old, new) in self.figures.items())
        return f"{self.name}: {changed or 'figures equal'}; {self.requests} requests differ{self.first}"


def differences(old: Found, new: Found) -> list[Difference]:
    """The cells that are not equal in every figure and every request, or are in one of the two only."""
    before = {one["name"]: one for one in old}
    after = {one["name"]: one for one in new}
    found = [
        Difference(name=name, first=", the cell is in one checkout only")
        for name in [*before, *after]
        if (name in before) != (name in after)
    ]
    pairs = [(before[name], after[name]) for name in before if name in after]
    return found + [changed for pair in pairs if (changed := _difference(*pair)) is not None]


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference | None:
    names = [*old["figures"], *(name for name in new["figures"] if name not in old["figures"])]
    nan = float("nan")
    pairs = {name: (old["figures"].get(name, nan), new["figures"].get(name, nan)) for name in names}
    before = {row[0]: list(row) for row in old["requests"]}
    after = {row[0]: list(row) for row in new["requests"]}
    moved = [number for number in sorted(before.keys() | after.keys()) if before.get(number) != after.get(number)]
    figures = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if not figures and not moved:
        return None
    first = f", first {before.get(moved[0])} -> {after.get(moved[0])}" if moved else ""
    return Difference(name=str(old["name"]), figures=figures, requests=len(moved), first=first)


def compare(base: Checkout, new: Checkout, only: str = "") -> tuple[list[Difference], int]:
    """Run the grid under both, at the same time; the differences, and how many cells there are."""
    with TemporaryDirectory(prefix="allsorts-grid-") as folder, ThreadPoolExecutor(max_workers=2) as pool:
        old, found = pool.map(lambda checkout: _run(checkout, Path(folder), only), (base, new))
    return differences(old, found), len(found)


def _run(checkout: Checkout, folder: Path, only: str) -> Found:
    path = folder / f"{checkout.name}.json"
    # -P: the script's folder must not come before the checkout's own packages
    script = str(Path(short_grid.__file__).resolve())
    command = [sys.executable, "-P", script, "--processes", "1", "--out", str(path), "--only", only]
    checkout.run(command, timeout_s=TIMEOUT_S)
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found
