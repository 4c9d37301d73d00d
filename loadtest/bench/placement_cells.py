"""The cells of ``make bench-placement``: one fleet under one kind of traffic, kept in a file of its own.

A cell that was measured with the same settings on the same code is not measured again, so a run that was cut off goes
on where it stopped, and pieces run one by one make the same report as all at once. Cells measured otherwise do not
count.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtest.simulate.cases import Case, Outcome, fleet_of
from loadtest.simulate.policies import POLICIES

OURS, ORACLE_LEAST = "cost", "weighted_least_request"
NOTHING_HIDDEN, FORESIGHT = "nothing_hidden", "foresight"
"""Ours with true speeds, lengths and fresh loads; ours behind somebody who knows which requests will come."""

STALENESS = "staleness"
CODE = (
    "router/scheduling/**/*.py",
    "router/capacity/*.py",
    "protos/contract/models/*.py",
    "loadtest/simulate/**/*.py",
    "workers/serving/precondition.py",
    "workers/engines/simulated/batch/*.py",
    "deploy/fleets/*.toml",
)
"""What decides the figures, beside the engines' parameters."""

SWEEPS: dict[str, tuple[dict[str, float], ...]] = {
    "cache_aware": ({}, {"balance_abs_threshold": 4.0, "balance_rel_threshold": 1.1}),
    "llmd": ({}, {"queue": 2.0, "kv_cache": 2.0, "prefix": 1.0}),
    "dynamo": ({}, {"overlap_score_weight": 2.0}),
    "power_of_two": ({}, {"choices": 4.0}),
    "weighted_least_request": ({}, {"active_request_bias": 0.7}),
}
"""Parameters tried beside each policy's own defaults."""

SWEEP_SEED = 101
"""Parameters are chosen on a draw of its own, so that no policy's are fitted to the draws that are reported."""

_START = {OURS: 0.65, "weighted_least_request": 0.4, "weighted_round_robin": 0.35}
_SHARE = {"code-like": 0.5}

Solve = Callable[[Sequence[Case], str], list[Outcome]]
"""Solves cases in order, saying what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What must be equal for cells to stand in one report. ``code``: a fingerprint of all that is measured."""

    requests: int
    seeds: tuple[int, ...]
    code: str

    def of(self, cell: dict[str, Any]) -> bool:
        """The cell was measured so."""
        found: bool = cell.get("settings") == json.loads(json.dumps(asdict(self)))
        return found


def fingerprint(fleets: Sequence[str]) -> str:
    """Changes with the code that is measured and with what the fleets' engines are."""
    digest = hashlib.sha256()
    for path in sorted(file for pattern in CODE for file in Path().glob(pattern)):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for fleet in fleets:
        digest.update("".join(repr(node.declared) for node in fleet_of(fleet).nodes).encode())
    return digest.hexdigest()[:16]


def measure_cell(fleet: str, traffic: str, settings: Settings, solve: Solve) -> dict[str, Any]:
    """Sweep parameters, then run every policy's best on every seed, ours and the oracle's under drift too."""
    swept = solve(list(_swept(fleet, traffic, settings)), f"{Path(fleet).stem}, {traffic}: parameters")
    cases: list[Case] = []
    for policy in POLICIES:
        mine = [one for one in swept if one.case.policy == policy]
        best = max(mine, key=goodput)
        start = min(max(goodput(best) / best.bound, 0.02), 1.0) if best.bound > 0 else 0.1
        for seed in settings.seeds:
            case = replace(best.case, seed=seed, requests=settings.requests, start=start, precision=0.04, stride=1.25)
            cases.append(case)
            if policy in (OURS, ORACLE_LEAST):
                cases.append(replace(case, drift=True, start=0.6 * start, stride=1.4))
            if policy == OURS:
                cases.append(replace(case, clairvoyant=True))
                cases.append(replace(case, foresight=True))
    solved = solve(cases, f"{Path(fleet).stem}, {traffic}: seeds and drift")
    return {
        "settings": asdict(settings),
        "fleet": Path(fleet).stem,
        "traffic": traffic,
        "knees": [detail(one) for one in solved],
        "sweep": [detail(one) for one in swept],
    }


def _swept(fleet: str, traffic: str, settings: Settings) -> Iterator[Case]:
    for policy in POLICIES:
        base = Case(
            fleet=fleet,
            traffic=traffic,
            policy=policy,
            seed=SWEEP_SEED,
            requests=min(settings.requests, 400),
            start=_START.get(policy, 0.2) * _SHARE.get(traffic, 1.0),
            precision=0.15,
        )
        if policy == OURS:
            yield base
            continue
        for parameters in SWEEPS.get(policy, ({},)):
            for admission in (True, False):
                yield replace(base, parameters=tuple(parameters.items()), admission=admission)


def measure_staleness(fleet: str, settings: Settings, solve: Solve) -> dict[str, Any]:
    """One replica with fresh loads against four that share nothing, with loads up to a second old."""
    cases = [
        Case(
            fleet=fleet,
            traffic="azure-like",
            policy=OURS,
            seed=seed,
            requests=settings.requests,
            start=_START[OURS],
            precision=0.04,
            stride=1.25,
            replicas=replicas,
            report_gap_s=gap,
        )
        for seed in settings.seeds
        for replicas, gap in ((1, 0.05), (4, 1.0))
    ]
    solved = solve(cases, "staleness")
    return {
        "settings": asdict(settings),
        "one_replica": [goodput(one) for one in solved if one.case.replicas == 1],
        "four_replicas_one_second": [goodput(one) for one in solved if one.case.replicas == 4],
    }


def goodput(outcome: Outcome) -> float:
    """At the knee."""
    return outcome.knee.goodput if outcome.knee is not None else 0.0


def detail(one: Outcome) -> dict[str, Any]:
    """One knee, JSON-ready."""
    case, at = one.case, one.figures
    told = NOTHING_HIDDEN if case.clairvoyant else FORESIGHT if case.foresight else ""
    return {
        "policy": told or case.policy,
        "seed": case.seed,
        "requests": case.requests,
        "drift": case.drift,
        "parameters": dict(case.parameters),
        "admission": case.admission,
        "goodput": round(goodput(one), 4),
        "bound": round(one.bound, 4),
        "quality_floor_broken": one.quality_floor_broken,
        "tried": {f"{rate:.3f}": round(share, 4) for rate, share in (one.knee.tried if one.knee else {}).items()},
        "ttft_s": at.ttft_s if at else None,
        "tpot_s": at.tpot_s if at else None,
        "shed": at.shed if at else None,
        "prefix_hit": round(at.prefix_hit, 3) if at else None,
        "fairness": round(at.fairness, 4) if at else None,
    }


class Cells:
    """The cells' files in one folder."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings

    def get(self, name: str) -> dict[str, Any] | None:
        """The cell, if it was measured with these settings."""
        try:
            cell: dict[str, Any] = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cell if self._settings.of(cell) else None

    def put(self, name: str, cell: dict[str, Any]) -> None:
        """Keep it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{name}.json").write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
