"""``allsorts simulate``: every policy on a fleet that need not exist, on a virtual clock."""

import json
import math
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.simulate.cases import Case, Outcome, fleet_of, notes_on, solve, traffic_at
from loadtest.simulate.drafts.compare import compare, told
from loadtest.simulate.drafts.stand import STANDS
from loadtest.simulate.policies import POLICIES
from loadtest.simulate.search import REQUIRED
from router.errors import ConfigError

WORKERS_SHOWN = 16
"""Fleets up to this size get a row of utilisation for each worker; larger ones the least, the mean and the most."""

WIDTH = 120
"""Columns of what is printed when it goes to a file or a pipe."""


def simulate(
    fleet: Annotated[str, typer.Option(help="A fleet file (deploy/fleets/*.toml), or the name of one there.")],
    traffic: Annotated[
        str, typer.Option(help="azure-like, code-like, agent-like, or a trace: Azure .csv, Mooncake .jsonl.")
    ] = "azure-like",
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy's name, several with commas between, or all. May be repeated.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, help="Requests a second; 0 looks for the load at which goodput breaks.")
    ] = 0.0,
    requests: Annotated[int, typer.Option(min=20, help="Requests per run.")] = 1000,
    seed: Annotated[int, typer.Option(help="Draws traffic, machines and noise.")] = 1,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Router replicas that share no memory.")] = 1,
    report_gap: Annotated[float, typer.Option(min=0.001, help="Seconds between two load reports.")] = 0.05,
    drift: Annotated[bool, typer.Option(help="One worker in four slows down 3x after a third of the run.")] = False,
    admission: Annotated[bool, typer.Option(help="The router's own queue in front of the policy.")] = True,
    draft: Annotated[
        str, typer.Option(help="Where the fleet's [[draft]] stands: local, remote; all compares them with none.")
    ] = "",
    processes: Annotated[int, typer.Option(min=1, help="Policies simulated at the same time.")] = 2,
    out: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Play traffic on a fleet with the server's own placement, admission and simulated engines; compare policies."""
    try:
        if not math.isfinite(rate):
            raise ConfigError(f"--rate {rate}: write requests a second, or 0 to look for the load that breaks goodput")
        base = Case(
            fleet=fleet if "/" in fleet or fleet.endswith(".toml") else f"deploy/fleets/{fleet}.toml",
            traffic=traffic,
            policy="cost",
            seed=seed,
            requests=requests,
            rate=rate,
            replicas=replicas,
            report_gap_s=report_gap,
            drift=drift,
            admission=admission,
            draft=_stand(draft, fleet),
        )
        spec = fleet_of(base.fleet)
        traffic_at(base, 1.0)
        if draft and not spec.drafts:
            raise ConfigError(f"--draft: {spec.name} has no [[draft]]; deploy/fleets/draft_home_lab.toml shows one")
        if draft == "all":
            (name, *_) = _policies(policy or ["cost"])
            found = compare(_with_policy(base, name), processes)
            typer.echo(told(spec, _with_policy(base, name), found))
            if out is not None:
                _write(out, [{"stand": one.stand or "none", **asdict(one)} for one in found])
            return
        outcomes = _solve([_with_policy(base, name) for name in _policies(policy or ["all"])], processes)
    except ConfigError as error:
        _fail(error.message)
    _show(outcomes)
    if out is not None:
        _write(out, [_figures(one) for one in outcomes])


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _stand(draft: str, fleet: str) -> str:
    """Of one case; ConfigError for one that does not exist."""
    if draft not in ("", "none", "all", *STANDS):
        raise ConfigError(f"--draft {draft} ({fleet}): choose none, all, {', '.join(STANDS)}")
    return draft if draft in STANDS else ""


def _policies(given: list[str]) -> list[str]:
    """Names from the command line, each once, in the order given; ConfigError for one that does not exist."""
    told = [name.strip() for text in given for name in text.split(",") if name.strip()]
    names = list(dict.fromkeys(name for one in told for name in (POLICIES if one == "all" else (one,))))
    for name in names:
        if name not in POLICIES:
            raise ConfigError(f"--policy: there is no policy '{name}'; the policies are all, {', '.join(POLICIES)}")
    if not names:
        raise ConfigError(f"--policy: names none; the policies are all, {', '.join(POLICIES)}")
    return names


def _with_policy(base: Case, policy: str) -> Case:
    return Case(**{**_fields(base), "policy": policy})


def _fields(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in Case.__dataclass_fields__}


def _solve(cases: list[Case], processes: int) -> list[Outcome]:
    """All cases, with a progress bar on a terminal; in the order given."""
    console = Console(stderr=True)
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(cases))
        if processes == 1 or len(cases) == 1:
            found = []
            for case in cases:
                progress.update(task, description=case.policy)
                found.append(solve(case))
                progress.advance(task)
            return found
        with ProcessPoolExecutor(max_workers=min(processes, len(cases))) as pool:
            futures: dict[Future[Outcome], Case] = {pool.submit(solve, case): case for case in cases}
            for future in as_completed(futures):
                future.result()
                progress.update(task, advance=1, description=futures[future].policy)
        return [future.result() for future in futures]


def _show(outcomes: list[Outcome]) -> None:
    terminal = Console()
    console = Console(width=None if terminal.is_terminal else WIDTH, highlight=False)
    case = outcomes[0].case
    spec = fleet_of(case.fleet)
    at = f"at {case.rate:g} requests/s" if case.rate else f"at the last load with {REQUIRED:.0%} inside the targets"
    console.print(
        f"{spec.name}, {len(spec.nodes)} workers, {case.traffic}, {case.requests} requests, {at}; "
        f"goodput is in requests/s, no policy can keep up more than {outcomes[0].bound:.2f}\n",
        soft_wrap=True,
    )
    for note in notes_on(case):
        console.print(f"note: {note}", soft_wrap=True)
    ranked = sorted(outcomes, key=goodput, reverse=True)
    console.print(_goodput_table(ranked), "", _latency_table(ranked), sep="\n")
    for one in ranked:
        if why := why_nothing(one):
            console.print(f"{one.case.policy}: {why}", soft_wrap=True)
    if len(spec.nodes) <= WORKERS_SHOWN:
        room = max((console.width - max(len(node.node) for node in spec.nodes) - 2) // 10, 1)
        for start in range(0, len(ranked), room):
            some = ranked[start : start + room]
            console.print("", _utilisation_table(some, [node.node for node in spec.nodes]), sep="\n")


def _grid(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _goodput_table(ranked: list[Outcome]) -> Table:
    table = _grid("policy", "goodput", "of bound", "shed", "prefix hit", "fairness", "floors broken")
    for one in ranked:
        at = one.figures
        shed = ["-"] * 3
        if at is not None:
            shed = [f"{sum(at.shed.values()) / at.requests:.1%}", f"{at.prefix_hit:.1%}", f"{at.fairness:.3f}"]
        share = f"{goodput(one) / one.bound:.2f}" if one.bound > 0 else "-"
        table.add_row(one.case.policy, f"{goodput(one):.2f}", share, *shed, str(one.quality_floor_broken))
    return table


def _latency_table(ranked: list[Outcome]) -> Table:
    table = _grid("policy", "TTFT s p50", "p95", "p99", "TPOT ms p50", "p95", "p99", "busy least", "mean", "most")
    for one in ranked:
        at = one.figures
        if at is None:
            table.add_row(one.case.policy, *["-"] * 9)
            continue
        busy = list(at.utilisation.values())
        table.add_row(
            one.case.policy,
            *(f"{at.ttft_s[name]:.2f}" for name in ("p50", "p95", "p99")),
            *(f"{1000 * at.tpot_s[name]:.0f}" for name in ("p50", "p95", "p99")),
            *(f"{share:.0%}" for share in (min(busy), sum(busy) / len(busy), max(busy))),
        )
    return table


def _utilisation_table(some: list[Outcome], nodes: list[str]) -> Table:
    """Share of the time each worker was busy: a row a worker, a column a policy."""
    shown = [one for one in some if one.figures is not None]
    table = _grid("busy", *(one.case.policy.replace("_", " ") for one in shown))
    for column in table.columns[1:]:
        column.max_width = 8
    for node in nodes:
        table.add_row(node, *(f"{one.figures.utilisation.get(node, 0.0):.0%}" for one in shown if one.figures))
    return table


def why_nothing(one: Outcome) -> str:
    """Why no load holds, by what became of the requests at the lowest that was tried; empty: one does."""
    at = one.knee.lowest if one.knee is not None else one.figures
    if at is None or goodput(one) > 0.0:
        return ""
    refused = sum(at.shed.values())
    reasons = [f"{count / at.requests:.0%} {code}" for code, count in sorted(at.shed.items(), key=lambda one: -one[1])]
    told = [f"refused {refused / at.requests:.0%} ({', '.join(reasons)})"] if refused else []
    if refused < at.requests:
        late = f"TTFT p50 {at.ttft_s['p50']:.2f} s, TPOT p50 {1000 * at.tpot_s['p50']:.0f} ms"
        told.append(f"{at.within:.0%} inside the targets; those served had {late}")
    return f"holds no load with {REQUIRED:.0%} inside the targets: at {at.offered:.2g} requests/s " + "; ".join(told)


def goodput(one: Outcome) -> float:
    """At the knee, or at the rate that was asked for."""
    if one.knee is not None:
        return one.knee.goodput
    return one.figures.goodput if one.figures is not None else 0.0


def _figures(one: Outcome) -> dict[str, Any]:
    return {
        **_fields(one.case),
        "goodput": goodput(one),
        "bound": one.bound,
        "quality_floor_broken": one.quality_floor_broken,
        "tried": {f"{rate:.4g}": share for rate, share in one.knee.tried.items()} if one.knee else {},
        "figures": asdict(one.figures) if one.figures is not None else None,
    }


def _fail(message: str) -> NoReturn:
    typer.echo(f"allsorts simulate: {message}", err=True)
    raise typer.Exit(1)
