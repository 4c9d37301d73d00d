"""``make bench-placement``: every policy on two fleets and three kinds of traffic, at rising load until goodput breaks.

Writes build/bench/placement.json (the figures) and build/bench/placement_details.json (seeds, spread, parameters,
bounds, staleness). A baseline is reported with its best parameters, with or without our admission in front of it,
whichever serves it better; ours runs as it ships.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.bench import decision, decode
from loadtest.simulate.cases import POLICIES, SPEED_BLIND, Case, Outcome, solve

FLEETS = ("home_lab", "mixed_company")
TRAFFIC = ("azure-like", "code-like", "agent-like")
OURS, ORACLE_LEAST = "cost", "weighted_least_request"
OUT = Path("build/bench")

SWEEPS: dict[str, tuple[dict[str, float], ...]] = {
    "cache_aware": ({}, {"balance_abs_threshold": 4.0, "balance_rel_threshold": 1.1}),
    "llmd": ({}, {"queue": 2.0, "kv_cache": 2.0, "prefix": 1.0}),
    "dynamo": ({}, {"overlap_score_weight": 2.0}),
    "power_of_two": ({}, {"choices": 4.0}),
    "weighted_least_request": ({}, {"active_request_bias": 0.7}),
}
"""Parameters tried beside each policy's own defaults."""


def main() -> None:
    """Run, print, write."""
    options = _arguments()
    started = time.monotonic()
    cases = _first_cases(options)
    with ProcessPoolExecutor(max_workers=options.processes) as pool:
        outcomes = _all(pool, cases, "sweep")
        best = _best(outcomes)
        more = [replace(case, seed=seed) for seed in options.seeds[1:] for case in best]
        more += [
            replace(case, seed=seed, drift=True)
            for seed in options.seeds
            for case in best
            if case.policy in (OURS, ORACLE_LEAST)
        ]
        stale = [
            Case(
                fleet=_fleet("mixed_company"),
                traffic="azure-like",
                policy=OURS,
                seed=seed,
                requests=options.requests,
                start=0.8,
                replicas=replicas,
                report_gap_s=gap,
            )
            for seed in options.seeds
            for replicas, gap in ((1, 0.05), (4, 1.0))
        ]
        later = _all(pool, [*more, *stale], "seeds, drift, staleness")
    kept = [one for one in outcomes if one.case in best] + later[: len(more)]
    report = _report(kept)
    report["decode_prediction"] = decode.measure()
    report["decision_us_p50"] = decision.measure()
    details = _details(kept, outcomes, later[len(more) :])
    details["seconds"] = round(time.monotonic() - started, 1)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "placement.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (OUT / "placement_details.json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
    _print(report, details)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="the first also sweeps parameters")
    parser.add_argument("--fleets", nargs="+", default=list(FLEETS))
    parser.add_argument("--traffic", nargs="+", default=list(TRAFFIC))
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8))
    options: argparse.Namespace = parser.parse_args()
    return options


def _fleet(name: str) -> str:
    return name if name.endswith(".toml") else f"deploy/fleets/{name}.toml"


def _first_cases(options: argparse.Namespace) -> list[Case]:
    cases = []
    for fleet in options.fleets:
        for traffic in options.traffic:
            for policy in POLICIES:
                base = Case(
                    fleet=_fleet(fleet),
                    traffic=traffic,
                    policy=policy,
                    seed=options.seeds[0],
                    requests=options.requests,
                    start=_START.get(policy, 0.3) * (0.4 if traffic == "code-like" else 1.0),
                    precision=0.03 if policy in (OURS, ORACLE_LEAST) else 0.08,
                )
                if policy == OURS:
                    cases.append(base)
                    continue
                cases += [
                    replace(base, parameters=tuple(parameters.items()), admission=admission)
                    for parameters in SWEEPS.get(policy, ({},))
                    for admission in (True, False)
                ]
    return cases


_START = {"cost": 0.95, "weighted_least_request": 0.65, "weighted_round_robin": 0.5}


def _all(pool: ProcessPoolExecutor, cases: Sequence[Case], what: str) -> list[Outcome]:
    """In order; says how far it is."""
    found = []
    for outcome in pool.map(solve, cases):
        found.append(outcome)
        print(f"\r{what}: {len(found)} of {len(cases)}", end="" if len(found) < len(cases) else "\n", flush=True)
    return found


def _goodput(outcome: Outcome) -> float:
    return outcome.knee.goodput if outcome.knee is not None else 0.0


def _best(outcomes: Sequence[Outcome]) -> list[Case]:
    """Each policy's best variant on each fleet and traffic."""
    best: dict[tuple[str, str, str], Outcome] = {}
    for one in outcomes:
        key = (one.case.fleet, one.case.traffic, one.case.policy)
        if key not in best or _goodput(one) > _goodput(best[key]):
            best[key] = one
    return [one.case for one in best.values()]


def _report(kept: Sequence[Outcome]) -> dict[str, Any]:
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for one in kept:
        groups[Path(one.case.fleet).stem, one.case.traffic].append(one)
    fleets: dict[str, dict[str, Any]] = defaultdict(dict)
    for (fleet, traffic), members in groups.items():
        calm = [one for one in members if not one.case.drift]
        drifted = [one for one in members if one.case.drift]
        goodput = {policy: _mean(calm, policy) for policy in POLICIES}
        fleets[fleet][traffic] = {
            "goodput": {policy: round(value, 3) for policy, value in goodput.items()},
            "vs_best_speed_blind": _ratio(goodput[OURS], max(goodput[policy] for policy in SPEED_BLIND)),
            "vs_oracle_weights": _ratio(goodput[OURS], goodput[ORACLE_LEAST]),
            "vs_oracle_weights_under_drift": _ratio(_mean(drifted, OURS), _mean(drifted, ORACLE_LEAST)),
            "vs_bound": _ratio(goodput[OURS], statistics.fmean(one.bound for one in calm if one.case.policy == OURS)),
            "quality_floor_broken": sum(one.quality_floor_broken for one in members),
        }
    return {"fleets": fleets}


def _mean(outcomes: Sequence[Outcome], policy: str) -> float:
    mine = [_goodput(one) for one in outcomes if one.case.policy == policy]
    return statistics.fmean(mine) if mine else 0.0


def _ratio(ours: float, theirs: float) -> float | None:
    """None: the other kept the targets at no load."""
    return round(ours / theirs, 3) if theirs > 0.0 else None


def _details(kept: Sequence[Outcome], swept: Sequence[Outcome], stale: Sequence[Outcome]) -> dict[str, Any]:
    one_replica = [_goodput(one) for one in stale if one.case.replicas == 1]
    four = [_goodput(one) for one in stale if one.case.replicas == 4]
    return {
        "knees": [_detail(one) for one in kept],
        "sweep": [_detail(one) for one in swept],
        "staleness": {
            "one_replica": one_replica,
            "four_replicas_one_second": four,
            "ratio": _ratio(sum(four), sum(one_replica)),
        },
    }


def _detail(one: Outcome) -> dict[str, Any]:
    case, at = one.case, one.figures
    return {
        "fleet": Path(case.fleet).stem,
        "traffic": case.traffic,
        "policy": case.policy,
        "seed": case.seed,
        "drift": case.drift,
        "parameters": dict(case.parameters),
        "admission": case.admission,
        "goodput": round(_goodput(one), 3),
        "bound": round(one.bound, 3),
        "tried": {f"{rate:.3f}": round(share, 4) for rate, share in (one.knee.tried if one.knee else {}).items()},
        "ttft_s": at.ttft_s if at else None,
        "tpot_s": at.tpot_s if at else None,
        "shed": at.shed if at else None,
        "prefix_hit": round(at.prefix_hit, 3) if at else None,
        "fairness": round(at.fairness, 4) if at else None,
    }


def _print(report: dict[str, Any], details: dict[str, Any]) -> None:
    for fleet, kinds in report["fleets"].items():
        for traffic, row in kinds.items():
            print(f"\n{fleet}, {traffic}: requests/s with 95% inside the targets")
            for policy, value in sorted(row["goodput"].items(), key=lambda item: -item[1]):
                seeds = [k["goodput"] for k in details["knees"] if _same(k, fleet, traffic, policy)]
                spread = f"  ({min(seeds):.2f} to {max(seeds):.2f})" if seeds else ""
                print(f"  {policy:24s} {value:7.2f}{spread}")
            print("  " + ", ".join(f"{name} {row[name]}" for name in row if name != "goodput"))
    print(f"\nstaleness, four replicas with loads up to 1 s old against one: {details['staleness']['ratio']}")
    print(f"decode prediction {report['decode_prediction']}, decision p50 in us {report['decision_us_p50']}")
    print(f"{details['seconds']} s; figures in {OUT}/placement.json")


def _same(knee: dict[str, Any], fleet: str, traffic: str, policy: str) -> bool:
    return (knee["fleet"], knee["traffic"], knee["policy"], knee["drift"]) == (fleet, traffic, policy, False)


if __name__ == "__main__":
    main()
