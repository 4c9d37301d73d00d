"""``make bench-mixed``: the same open-loop traffic through us and through others onto six machines of six speeds."""

import argparse
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.bench.figures import keep
from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.mixed.machines import Fleet
from loadtest.bench.router.contenders import peers_are_installed
from loadtest.locust.cli import run_locust
from loadtest.locust.options import Options

FOLDER = Path("build/bench/mixed")
OURS = ("uvicorn", "serve")
SUSTAINED = 0.95
"""Share in time at a load that is kept up."""
DRAIN_S, DEADLINE_S = 35.0, 240.0
"""After the last request; of one request. A long answer at a TPOT that is just in time takes minutes."""
_SLOWED = "machines, load and targets so many times as slow: the same figures with less of this machine's processors"
PEERS = (
    "vllm-router:power_of_two",
    "vllm-router:cache_aware",
    "sglang-router:power_of_two",
    "sglang-router:cache_aware",
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", type=Path, default=Path("deploy/fleets/six_machines.toml"))
    parser.add_argument("--rates", default="8,16,24,32,48", help="requests a second, with commas between")
    parser.add_argument("--duration", type=float, default=40.0, help="seconds at each rate")
    parser.add_argument("--rounds", type=int, default=1, help="each draws other requests")
    parser.add_argument("--slowed", type=float, default=1.0, help=_SLOWED)
    parser.add_argument("--together", action="store_true", help="all routers at the same time, each with its machines")
    parser.add_argument("--resume", action="store_true", help="keep the runs that stand in build/bench/mixed")
    parser.add_argument("--ours", choices=OURS, default="uvicorn", help="what our router runs under")
    parser.add_argument("--peers", default=",".join(PEERS), help="PROGRAM:POLICY, with commas between")
    options = parser.parse_args()
    if not peers_are_installed():
        raise SystemExit("bench-mixed: nobody to compare with; run make env-peers")
    if not options.resume:
        shutil.rmtree(FOLDER, ignore_errors=True)
    rates = [float(one) for one in options.rates.split(",")]
    names = [options.ours, *options.peers.split(",")]
    found = list(_runs(options, names, rates))
    rows = [_row(name, rate, [one for one in found if one["as"] == (name, rate)]) for rate in rates for name in names]
    print("\n".join(_table(rows)))
    ratio = versus(rows, options.ours)
    figures = {
        "slowed": options.slowed,
        "together": options.together,
        "vs_best_peer": ratio["best"],
        "vs_best_peer_by_rate": ratio["by_rate"],
    }
    path = keep("mixed_fleet", {**figures, "sustained": ratio["sustained"], "rows": rows})
    for name, goodput in ratio["sustained"].items():
        print(f"{name:<28} most requests/s with {SUSTAINED:.0%} in time: {goodput:.2f}")
    best = max((row for row in rows if row["router"] != options.ours), key=lambda row: float(row["goodput_per_s"]))
    whose = f"{best['router']} at {best['rate']:g}"
    print(f"bench-mixed: {ratio['best']:.2f}x the goodput of the best peer ({whose}); {path}")


def versus(rows: list[dict[str, Any]], ours: str) -> dict[str, Any]:
    """Our goodput over the best peer's: each at the load that suits it best, and at every load.

    ``sustained``: of each router the most goodput at a load with 95% in time, the measure of ``make bench-placement``;
    0 where it kept no load that was tried.
    """

    def most(rows: list[dict[str, Any]]) -> float:
        return max((float(row["goodput_per_s"]) for row in rows), default=0.0)

    mine, others = [row for row in rows if row["router"] == ours], [row for row in rows if row["router"] != ours]
    by_rate = {}
    for rate in sorted({row["rate"] for row in rows}):
        here = most([row for row in mine if row["rate"] == rate])
        there = most([row for row in others if row["rate"] == rate])
        by_rate[f"{rate:g}"] = round(here / there, 3) if there else None
    sustained = {
        name: most([row for row in rows if row["router"] == name and row["within_slo"] >= SUSTAINED])
        for name in {row["router"]: None for row in rows}
    }
    best = round(most(mine) / most(others), 3) if most(others) else 0.0
    return {"best": best, "by_rate": by_rate, "sustained": sustained}


def _runs(options: argparse.Namespace, names: list[str], rates: list[float]) -> Iterator[dict[str, Any]]:
    """Everybody at every rate, in turn or together, the same requests at the same times."""
    at_once = len(names) if options.together else 1
    for number in range(1, options.rounds + 1):
        for rate in rates:
            for place in range(0, len(names), at_once):
                some = names[place : place + at_once]
                _run([name for name in some if not _report_of(name, rate, number).exists()], rate, number, options)
                for name in some:
                    text = _report_of(name, rate, number).read_text(encoding="utf-8")
                    found = as_if_not_slowed(json.loads(text), options.slowed)
                    print(f"  round {number}: {name} at {rate:g}: goodput {found['goodput_per_s']:.2f}, "
                          f"limits {found['generator']['limits']}", flush=True)  # fmt: skip
                    yield {"as": (name, rate), **found}


def _report_of(name: str, rate: float, number: int) -> Path:
    return FOLDER / f"{name.replace(':', '-')}-{rate:g}-{number}" / "report.json"


def _run(names: list[str], rate: float, number: int, options: argparse.Namespace) -> None:
    """These at once. All are up before the first is loaded: starting takes more of a machine than serving."""
    with ExitStack() as up, ThreadPoolExecutor(max(len(names), 1)) as threads:
        loads = []
        for name in names:
            folder = _report_of(name, rate, number).parent
            fleet = up.enter_context(Fleet(Checkout.here(), folder / "fleet", options.fleet, slowed=options.slowed))
            loads.append(_load(name, fleet.behind(name), fleet.model, rate, number, folder, options))
        for name, status in zip(names, threads.map(lambda load: run_locust(load, quiet=True), loads), strict=True):
            if status != 0:
                raise SystemExit(f"bench-mixed: the load generator ended with {status} at {name}")


def _load(
    name: str, url: str, model: str, rate: float, number: int, folder: Path, options: argparse.Namespace
) -> Options:
    slowed = options.slowed
    return Options(
        url=url, model=model, workload="azure-like", rate=rate / slowed, duration_s=options.duration * slowed,
        seed=number, tell_slo=True, out=str(folder), label=f"{name} at {rate:g}", drain_s=DRAIN_S * slowed,
        deadline_s=DEADLINE_S * slowed, slo_ttft_s=2.0 * slowed, slo_ttft_per_prompt_token_s=0.001 * slowed,
        slo_tpot_s=0.1 * slowed,
    )  # fmt: skip


def as_if_not_slowed(report: dict[str, Any], slowed: float) -> dict[str, Any]:
    """A report's figures with everything ``slowed`` times as fast."""
    rates = {name: slowed * report[name] for name in ("offered_per_s", "goodput_per_s")}
    times = {
        name: {point: seconds / slowed for point, seconds in report[name].items()}
        for name in ("ttft_s", "e2e_s", "tpot_s")
    }
    return {**report, **rates, **times}


def _row(name: str, rate: float, reports: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(*path: str) -> float:
        values = []
        for report in reports:
            value: Any = report
            for key in path:
                value = value.get(key, float("nan"))
            values.append(float(value))
        return round(median(values), 4)

    return {
        "router": name,
        "rate": rate,
        "offered_per_s": middle("offered_per_s"),
        "goodput_per_s": middle("goodput_per_s"),
        "goodput_spread": [min(one["goodput_per_s"] for one in reports), max(one["goodput_per_s"] for one in reports)],
        "within_slo": middle("within_slo"),
        "shed": sum(sum(one["shed"].values()) for one in reports),
        "failed": sum(sum(one["failed"].values()) for one in reports),
        **{f"{kind}_{point}": middle(kind, point) for kind in ("ttft_s", "e2e_s") for point in ("p50", "p95", "p99")},
        "tpot_s_p50": middle("tpot_s", "p50"),
        "tpot_s_p99": middle("tpot_s", "p99"),
        "workers": {one["worker"]: one["share"] for one in reports[0]["workers"]},
        "generator_limits": sorted({limit for one in reports for limit in one["generator"]["limits"]}),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("offered", "goodput", "in time", "TTFT p50", "p95", "p99", "E2E p50", "p99", "TPOT ms p50", "p99", "shed")
    lines = [f"{'router':<28}" + "".join(f"{head:>12}" for head in heads)]
    for row in rows:
        cells = [f"{row[name]:.2f}" for name in ("offered_per_s", "goodput_per_s")] + [f"{row['within_slo']:.1%}"]
        cells += [f"{row[name]:.2f}" for name in ("ttft_s_p50", "ttft_s_p95", "ttft_s_p99", "e2e_s_p50", "e2e_s_p99")]
        cells += [f"{1e3 * row[name]:.0f}" for name in ("tpot_s_p50", "tpot_s_p99")] + [str(row["shed"])]
        lines.append(f"{row['router']:<28}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


if __name__ == "__main__":
    main()
