"""What ``make bench-house`` says: the figures of the file, the table, the summary line."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench.house.decision_time import CLEAR, DISPATCH, WORKERS
from loadtest.bench.house.ratios import Ratio, ratio
from loadtest.bench.house.router_cpu import Carried
from loadtest.bench.house.size import largest_package, lines_of, longest_module

SIDES = ("base", "new")

console = Console(width=150, highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of one checkout, without tests and generated stubs."""

    lines_router: int
    lines_workers: int
    lines_contract: int
    largest_package: tuple[str, int]
    longest_module: tuple[str, int]

    @property
    def lines_router_workers(self) -> int:
        """Both together; what both share is not in it."""
        return self.lines_router + self.lines_workers


def sizes(folder: Path) -> Sizes:
    """Of the checkout in this folder."""
    return Sizes(
        lines_router=lines_of(folder, "router"),
        lines_workers=lines_of(folder, "workers"),
        lines_contract=lines_of(folder, "protos/contract"),
        largest_package=largest_package(folder),
        longest_module=longest_module(folder),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything, by checkout (``base``, ``new``) and in order of rounds."""

    base: str
    streams: int
    decisions: Mapping[str, Sequence[Mapping[str, float]]]
    carried: Mapping[str, Sequence[Carried]]
    prefix: Mapping[str, float]
    sizes: Mapping[str, Sizes]

    @property
    def ratios(self) -> dict[str, Ratio]:
        """New by base, under the names of the figures."""
        found = {f"decision_ratio_{workers}": ratio(*self.decision_us(workers).values()) for workers in WORKERS}
        return found | {"router_cpu_ratio": ratio(*self.cpu_s().values())}

    def decision_us(self, workers: str) -> dict[str, list[float]]:
        """Microseconds (p50) of a decision, base first."""
        return {name: [one[workers] for one in self.decisions[name]] for name in SIDES}

    def cpu_s(self) -> dict[str, list[float]]:
        """The router's seconds for a thousand streams, base first."""
        return {name: [one.cpu_s for one in self.carried[name]] for name in SIDES}


def figures(found: Measured) -> dict[str, Any]:
    """What is written."""
    new = found.sizes["new"]
    return {
        **{name: round(one.median, 4) for name, one in found.ratios.items()},
        "lines_router_workers": new.lines_router_workers,
        "largest_package": new.largest_package[1],
        **found.prefix,
        "spread": {name: [round(one.low, 4), round(one.high, 4)] for name, one in found.ratios.items()},
        "base": found.base,
        "streams": found.streams,
        "decision_us_p50": {workers: found.decision_us(workers) for workers in WORKERS},
        "router_cpu_s": found.cpu_s(),
        "router_cpu_least_ratio": round(min(found.cpu_s()["new"]) / min(found.cpu_s()["base"]), 4),
        "ttft_p50_s": {name: [one.ttft_p50_s for one in rounds] for name, rounds in found.carried.items()},
        "tpot_p50_s": {name: [one.tpot_p50_s for one in rounds] for name, rounds in found.carried.items()},
        "sizes": {name: asdict(one) for name, one in found.sizes.items()},
    }


def write(found: Measured, out: Path) -> None:
    """Print the table and the summary line, write the file."""
    written = figures(found)
    console.print(_table(found))
    spread = {name: f"{one.median:.3f} ({one.low:.3f} to {one.high:.3f})" for name, one in found.ratios.items()}
    base, new = found.sizes["base"], found.sizes["new"]
    console.print(
        f"bench-house: a decision takes {spread['decision_ratio_50']} of the base's time at 50 workers, "
        f"{spread['decision_ratio_1000']} at 1,000; the router's CPU is {spread['router_cpu_ratio']}; "
        f"{new.lines_router_workers:,} lines in router and workers, {base.lines_router_workers:,} before; "
        f"{new.largest_package[1]} modules in the largest package; an instance's 262,144 blocks are cleared in "
        f"{found.prefix[CLEAR]:.3f} s, 1,000 dispatched in {found.prefix[DISPATCH]:.2f} ms",
        soft_wrap=True,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _table(found: Measured) -> Table:
    table = Table("figure", "base", "new", "ratio", "spread", box=None, pad_edge=False)
    for row in (*_speeds(found), *_sizes(found)):
        table.add_row(*row)
    return table


def _speeds(found: Measured) -> Iterator[tuple[str, ...]]:
    for workers in WORKERS:
        base, new = (statistics.median(values) for values in found.decision_us(workers).values())
        one = found.ratios[f"decision_ratio_{workers}"]
        yield (f"decision at {int(workers):,} workers", f"{base:.1f} us", f"{new:.1f} us", *_cells(one))
    base, new = (statistics.median(values) for values in found.cpu_s().values())
    one = found.ratios["router_cpu_ratio"]
    yield ("router CPU, 1,000 streams", f"{base:.2f} s", f"{new:.2f} s", *_cells(one))
    base, new = (min(values) for values in found.cpu_s().values())  # the least disturbed rounds
    yield ("  least of all rounds", f"{base:.2f} s", f"{new:.2f} s", f"{new / base:.3f}")
    for name, figure in (("TTFT p50", "ttft_p50_s"), ("TPOT p50", "tpot_p50_s")):
        both = (statistics.median(getattr(one, figure) for one in found.carried[side]) for side in SIDES)
        yield (name, *(f"{1e3 * value:.2f} ms" for value in both))
    yield from ((name, "", f"{value:.4g}") for name, value in found.prefix.items())


def _sizes(found: Measured) -> Iterator[tuple[str, ...]]:
    for name in ("lines_router", "lines_workers", "lines_router_workers", "lines_contract"):
        yield (name.replace("_", " "), *(f"{getattr(found.sizes[side], name):,}" for side in SIDES))
    for name in ("largest_package", "longest_module"):
        largest = (getattr(found.sizes[side], name) for side in SIDES)
        yield (name.replace("_", " "), *(f"{count:,} ({where})" for where, count in largest))


def _cells(of: Ratio) -> tuple[str, str]:
    return f"{of.median:.3f}", f"{of.low:.3f} to {of.high:.3f}"
