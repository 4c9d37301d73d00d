"""From rounds to rows: direct subtracted within a round, medians and spread over rounds. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from loadtest.bench.router.measure import Cell

Rounds = Mapping[str, Sequence[Cell]]
"""Cells of one load by contender, a cell a round; ``direct`` among them."""

ADDED = ("ttft_p50_s", "ttft_p99_s", "itl_p99_s")


def row(name: str, concurrency: int, rounds: Rounds) -> dict[str, Any]:
    """Milliseconds added to direct's of the same round, processor seconds for a thousand streams; with [low, high]."""
    cells, direct = rounds[name], rounds["direct"]
    found: dict[str, Any] = {"router": name, "concurrency": concurrency, "failed": sum(one.failed for one in cells)}
    for figure in ADDED:
        added = [1e3 * (getattr(one, figure) - getattr(base, figure)) for one, base in zip(cells, direct, strict=True)]
        found |= _middle(f"added_{figure.replace('_s', '').replace('_p', '_ms_p')}", added, 2)
    found |= _middle("ttft_ms_p50", [1e3 * one.ttft_p50_s for one in cells], 2)
    for key, figure in (("cpu_s_per_1000", "cpu_s"), ("cpu_s_per_1000_replica", "replica_cpu_s"),
                        ("cpu_s_per_1000_worker", "worker_cpu_s")):  # fmt: skip
        found |= _middle(key, [getattr(one, figure) for one in cells], 3)
    return found


def unpaced(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Tokens a second by contender, where nothing paces them."""
    name = "tokens_per_s_unpaced"
    return {router: _middle(name, [one.tokens_per_s for one in cells], 0) for router, cells in rounds.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for people."""
    heads = ("added TTFT ms p50", "p99", "added ITL ms p99", "CPU s/1,000: tree", "replica", "worker", "failed")
    widths = (24, 26, 24, 22, 8, 7, 7)
    head = "".join(f" {one:>{width}}" for one, width in zip(heads, widths, strict=True))
    lines = [f"{'router':<15} {'at once':>7}{head}"]
    for one in rows:
        cells = [_spread(one, name) for name in ("added_ttft_ms_p50", "added_ttft_ms_p99", "added_itl_ms_p99")]
        cells += [_spread(one, "cpu_s_per_1000")]
        cells += [f"{one['cpu_s_per_1000_replica']:.2f}", f"{one['cpu_s_per_1000_worker']:.2f}", str(one["failed"])]
        shown = "".join(f" {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{one['router']:<15} {one['concurrency']:>7}{shown}")
    return lines


def _middle(name: str, values: Sequence[float], digits: int) -> dict[str, Any]:
    spread = [round(min(values), digits), round(max(values), digits)]
    return {name: round(median(values), digits), f"{name}_spread": spread}


def _spread(one: Mapping[str, Any], name: str) -> str:
    low, high = one[f"{name}_spread"]
    return f"{one[name]:.2f} ({low:.2f} to {high:.2f})"
