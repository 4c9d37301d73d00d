"""``make bench-placement``: every policy on two fleets and three kinds of traffic, at rising load until goodput breaks.

Writes build/bench/placement.json (the figures), build/bench/placement_details.json (seeds, spread, parameters, bounds,
staleness) and each cell as soon as it is measured (``--fleets``, ``--traffic`` measure some only; the report is made of
all that were measured alike). A baseline is reported with its best parameters, with or without our admission in front
of it, whichever serves it better; ours runs as it ships.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from loadtest.bench import decision, decode, short_grid
from loadtest.bench.placement_cells import (
    FORESIGHT,
    NOTHING_HIDDEN,
    ORACLE_LEAST,
    OURS,
    STALENESS,
    Cells,
    Settings,
    fingerprint,
    measure_cell,
    measure_staleness,
)
from loadtest.simulate.cases import SPEED_BLIND, Case, Outcome, solve
from loadtest.simulate.policies import POLICIES

FLEETS = ("home_lab", "mixed_company")
TRAFFIC = ("azure-like", "code-like", "agent-like")
OUT = Path("build/bench")


def main() -> None:
    """Run, print, write."""
    options = _arguments()
    if options.short:
        print(short_grid.table(short_grid.run(options.processes)))
        return
    started = time.monotonic()
    code = fingerprint([_path(fleet) for fleet in FLEETS])
    settings = Settings(requests=options.requests, seeds=tuple(options.seeds), code=code)
    cells = Cells(OUT / "placement", settings)
    if not options.report:
        with ProcessPoolExecutor(max_workers=options.processes) as pool:
            _measure(options, settings, cells, pool)
    found = [cell for f in FLEETS for t in TRAFFIC if (cell := cells.get(f"{f}.{t}")) is not None]
    report = _report(found)
    stale = cells.get(STALENESS)
    if stale is not None:
        four, one = stale["four_replicas_one_second"], stale["one_replica"]
        report["staleness"] = {**stale, "ratio": _ratio(sum(four), sum(one))}
        del report["staleness"]["settings"]
    report["decode_prediction"] = decode.measure()
    report["decision_us_p50"] = decision.measure()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "placement.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (OUT / "placement_details.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _print(report, found)
    print(f"{time.monotonic() - started:.0f} s; figures in {OUT}/placement.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=600, help="per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--fleets", nargs="*", default=list(FLEETS), choices=FLEETS)
    parser.add_argument("--traffic", nargs="+", default=list(TRAFFIC), choices=TRAFFIC)
    parser.add_argument("--staleness", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--report", action="store_true", help="measure no cell, report those that are there")
    parser.add_argument("--short", action="store_true", help="a fixed grid at fixed loads instead; half a minute")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8))
    options: argparse.Namespace = parser.parse_args()
    return options


def _measure(options: argparse.Namespace, settings: Settings, cells: Cells, pool: ProcessPoolExecutor) -> None:
    """The cells asked for that are not there yet."""

    def solved(cases: Sequence[Case], what: str) -> list[Outcome]:
        found = []
        for outcome in pool.map(solve, cases):
            found.append(outcome)
            print(f"\r{what}: {len(found)} of {len(cases)}", end="" if len(found) < len(cases) else "\n", flush=True)
        return found

    for fleet in options.fleets:
        for traffic in options.traffic:
            if cells.get(f"{fleet}.{traffic}") is None:
                cells.put(f"{fleet}.{traffic}", measure_cell(_path(fleet), traffic, settings, solved))
    if options.staleness and cells.get(STALENESS) is None:
        cells.put(STALENESS, measure_staleness(_path("mixed_company"), settings, solved))


def _path(fleet: str) -> str:
    return f"deploy/fleets/{fleet}.toml"


def _report(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    fleets: dict[str, dict[str, Any]] = defaultdict(dict)
    for cell in cells:
        knees = cell["knees"]
        calm = [knee for knee in knees if not knee["drift"]]
        drifted = [knee for knee in knees if knee["drift"]]
        goodput = {policy: _mean(calm, policy) for policy in POLICIES}
        ours, clairvoyant = goodput[OURS], _clairvoyant(calm)
        fleets[cell["fleet"]][cell["traffic"]] = {
            "goodput": {policy: round(goodput[policy], 3) for policy in POLICIES},
            "goodput_clairvoyant": round(clairvoyant, 3),
            "vs_best_speed_blind": _ratio(ours, max(goodput[policy] for policy in SPEED_BLIND)),
            "vs_oracle_weights": _ratio(ours, goodput[ORACLE_LEAST]),
            "vs_oracle_weights_under_drift": _ratio(_mean(drifted, OURS), _mean(drifted, ORACLE_LEAST)),
            "vs_clairvoyant": _ratio(ours, clairvoyant),
            "vs_bound": _ratio(ours, statistics.fmean(one["bound"] for one in calm if one["policy"] == OURS)),
            "quality_floor_broken": sum(one["quality_floor_broken"] for one in knees),
        }
    return {"fleets": fleets}


def _mean(knees: Sequence[dict[str, Any]], policy: str) -> float:
    mine = [knee["goodput"] for knee in knees if knee["policy"] == policy]
    return statistics.fmean(mine) if mine else 0.0


_TOLD = (NOTHING_HIDDEN, FORESIGHT)


def _clairvoyant(knees: Sequence[dict[str, Any]]) -> float:
    """On each draw the best of all that know what a policy cannot, averaged."""
    best: dict[int, float] = defaultdict(float)
    for knee in knees:
        if knee["policy"] in _TOLD:
            best[knee["seed"]] = max(best[knee["seed"]], knee["goodput"])
    return statistics.fmean(best.values()) if best else 0.0


def _ratio(ours: float, theirs: float) -> float | None:
    """None: the other kept the targets at no load."""
    return round(ours / theirs, 3) if theirs > 0.0 else None


def _print(report: dict[str, Any], cells: Sequence[dict[str, Any]]) -> None:
    for cell in cells:
        row = report["fleets"][cell["fleet"]][cell["traffic"]]
        print(f"\n{cell['fleet']}, {cell['traffic']}: requests/s with 95% inside the targets")
        means = {**row["goodput"], **{told: _mean(cell["knees"], told) for told in _TOLD}}
        for policy, value in sorted(means.items(), key=lambda item: -item[1]):
            seeds = [k["goodput"] for k in cell["knees"] if k["policy"] == policy and not k["drift"]]
            print(f"  {policy:24s} {value:7.2f}  ({min(seeds):.2f} to {max(seeds):.2f})")
        print("  " + ", ".join(f"{name} {row[name]}" for name in row if not name.startswith("goodput")))
    if "staleness" in report:
        ratio = report["staleness"]["ratio"]
        print(f"\nstaleness, four replicas with loads up to 1 s old against one: {ratio}")
    print(f"decode prediction {report['decode_prediction']}, decision p50 in us {report['decision_us_p50']}")
    missing = len(FLEETS) * len(TRAFFIC) - len(cells)
    if missing:
        print(f"{missing} cells are not measured yet with these settings on this code")


if __name__ == "__main__":
    main()
