"""A short fixed grid of simulations: what every policy does to the same requests, to compare two states of the code.

Loads are fixed and not searched for, seeds fix everything drawn, so the same code gives the same figures to the last
digit, and the place of every single request. It takes half a minute on two cores. The file also runs under an older
checkout, from which it needs only ``Case``, ``run_at`` and ``World``:

    cd OLDER && PYTHONPATH=. python -P THIS_FILE --out older.json
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadtest.simulate import cases
from loadtest.simulate.cases import Case, run_at
from loadtest.simulate.metrics import Figures
from loadtest.simulate.world import World

REQUESTS = 400
SEEDS = (1, 2)
POLICIES = (
    "cost",
    "round_robin",
    "random",
    "least_request",
    "power_of_two",
    "weighted_round_robin",
    "weighted_least_request",
    "cache_aware",
    "llmd",
    "dynamo",
)
RATES = {
    ("home_lab", "azure-like"): 2.6,
    ("home_lab", "code-like"): 1.0,
    ("home_lab", "agent-like"): 2.6,
    ("mixed_company", "azure-like"): 10.5,
    ("mixed_company", "code-like"): 4.5,
    ("mixed_company", "agent-like"): 9.0,
}
"""Requests a second, a little beyond what the best policy holds: queues form, late requests are shed, choices made on
old loads do not hold. Well below that, many policies would look alike.
"""

Row = tuple[int, str, str, str, float, float, float, int]
"""One request: number, worker, quantization, refusal; dispatch, first token and end in seconds; cached tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulation. ``name`` is the same in every checkout."""

    name: str
    case: Case


class Watched(World):
    """A world that can be asked about after the run: ``run_at`` gives the figures alone."""

    latest: "Watched | None" = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        Watched.latest = self


def grid() -> Iterator[Cell]:
    """Every policy on every load; then ours where machines drift, replicas share nothing, or nothing is hidden."""
    for seed in SEEDS:
        for (fleet, traffic), rate in RATES.items():
            base = _case(fleet, traffic, rate, seed)
            for policy in POLICIES:
                yield _cell(fleet, policy, replace(base, policy=policy))
            yield _cell(fleet, "cost, 4 replicas, loads of 1 s", replace(base, replicas=4, report_gap_s=1.0))
            if traffic == "azure-like":
                yield _cell(fleet, "cost, drift", replace(base, drift=True))
                yield _cell(fleet, "cost, nothing hidden", replace(base, clairvoyant=True))
                yield _cell(fleet, "cost, no admission", replace(base, admission=False))
                yield _cell(fleet, "llmd, no admission", replace(base, policy="llmd", admission=False))


def _case(fleet: str, traffic: str, rate: float, seed: int) -> Case:
    return Case(
        fleet=f"deploy/fleets/{fleet}.toml", traffic=traffic, policy="cost", seed=seed, requests=REQUESTS, rate=rate
    )


def _cell(fleet: str, what: str, case: Case) -> Cell:
    return Cell(name=f"{fleet} {case.traffic} {case.seed} {what}", case=case)


def _watched(case: Case) -> tuple[Figures, World]:
    names = vars(cases)
    names["World"] = Watched  # nothing else reaches the world behind ``run_at`` in an older checkout
    try:
        found = run_at(case, case.rate)
    finally:
        names["World"] = World
    assert Watched.latest is not None
    return found, Watched.latest


def play(cell: Cell) -> dict[str, Any]:
    """A cell's figures, and the way of each of its requests."""
    found, world = _watched(cell.case)
    served = [world.served[number] for number in sorted(world.served)]
    done = [one for one in served if not one.shed]
    rows: list[Row] = [
        (
            one.arrival.number,
            one.node,
            one.quantization,
            one.shed,
            one.dispatched_at,
            one.first_at,
            one.ended_at,
            one.cached_tokens,
        )
        for one in served
    ]
    return {
        "name": cell.name,
        "figures": {
            "goodput": found.goodput,
            "missed": sum(not one.good for one in served),
            "shed": len(served) - len(done),
            "conflicts": world.conflicts,
            "served_tokens": sum(one.arrival.output_tokens for one in done),
            "ttft_mean_s": statistics.fmean(one.ttft_s for one in done) if done else 0.0,
            "tpot_mean_s": statistics.fmean(one.tpot_s for one in done) if done else 0.0,
            "cached_tokens": sum(one.cached_tokens for one in done),
            "preemptions": sum(one.preemptions for one in done),
        },
        "requests": rows,
    }


def run(processes: int, only: str = "") -> list[dict[str, Any]]:
    """All cells whose name contains ``only``, in order."""
    cells: Sequence[Cell] = [cell for cell in grid() if only in cell.name]
    with ProcessPoolExecutor(max_workers=processes) as pool:
        return list(pool.map(play, cells))


def table(found: Sequence[dict[str, Any]]) -> str:
    """One line a cell."""
    lines = [f"{'cell':57s} goodput  missed  shed  conflicts  tokens   TTFT mean"]
    for one in found:
        at = one["figures"]
        lines.append(
            f"{one['name']:57s} {at['goodput']:7.3f}  {at['missed']:6d}  {at['shed']:4d}  {at['conflicts']:9d}"
            f"  {at['served_tokens']:6d}  {at['ttft_mean_s']:8.4f} s"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("build/bench/short_grid.json"))
    options = parser.parse_args()
    here, used = Path.cwd().resolve(), Path(cases.__file__).resolve()
    if not used.is_relative_to(here):
        parser.error(f"{used} would be measured, which is not of {here}")
    found = run(options.processes, options.only)
    if not found:
        parser.error(f"no cell's name contains {options.only!r}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
