"""``make chaos``: every fault in turn, one table, one summary line, ``build/bench/chaos.json``.

Each scenario starts a pool of its own: a router, two workers with the real model at two quantizations, six simulated
workers at two more; 200 streams run when it strikes, and new requests keep coming. Content is checked, token by
token (``answers.py``).
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.chaos.answers import RealAnswers
from loadtest.chaos.pool import REAL, small_disk, unmount
from loadtest.chaos.routers import Serving
from loadtest.chaos.rows import Row, failed_row, merged
from loadtest.chaos.run import rows_of, run_scenario
from loadtest.chaos.scenarios import DISK_BYTES, Scenario, scenarios
from loadtest.chaos.waiting import NotReached
from workers.cli.log_setup import set_up_logging
from workers.models.smollm2 import make, quieten_llama

STREAMS = 200
SCENARIO_DEADLINE_S = 420.0
OUT = Path("build/bench/chaos.json")

console = Console(width=150, highlight=False)


def main() -> None:
    """Command line; exits with 1 when a row is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.chaos", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", help="e.g. 'drain' 'hung engine'")
    parser.add_argument(
        "--router", type=Serving, choices=list(Serving), default=Serving.SERVE, help="what the router runs under"
    )
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument(
        "--quantizations", nargs=2, default=["q4_0", "q8_0"], help="of the two real workers; the first is hit"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for logs; otherwise they go with the run")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--add", action="store_true", help="keep the rows of other faults that --out has, for one table"
    )
    options = parser.parse_args()
    set_up_logging("error")
    quieten_llama()
    models = make(Path("build/models"), options.quantizations)
    with tempfile.TemporaryDirectory(prefix="allsorts-chaos-") as temporary:
        folder = options.keep or Path(temporary)
        rows = asyncio.run(_all(folder.resolve(), models, options))
    if options.add and options.out.exists():
        kept = [Row.from_json(figures) for figures in json.loads(options.out.read_text())]
        rows = merged(kept, rows, [one.name for one in scenarios(Path())])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    console.print(_table(rows))
    missed = [row for row in rows if row.misses]
    for row in missed:
        console.print(f"{row.fault}, {row.engine}: {'; '.join(row.misses)}; {' | '.join(row.errors)}", soft_wrap=True)
    console.print(
        f"chaos: router under {' and '.join(sorted({row.router for row in rows}))}; {len(rows)} rows, "
        f"{sum(row.streams for row in rows)} streams in flight, "
        f"{sum(row.completed for row in rows)} completed, {sum(row.continued for row in rows)} continued, "
        f"{sum(row.failed_by_design for row in rows)} failed by design, "
        f"{sum(row.tokens_wrong for row in rows)} tokens wrong; {len(missed)} rows not as expected",
        soft_wrap=True,
    )
    sys.exit(1 if missed or not rows else 0)


async def _all(folder: Path, models: dict[str, Path], options: argparse.Namespace) -> list[Row]:
    disk = folder / "disk"
    wanted = [one for one in scenarios(disk) if not options.only or one.name in options.only]
    unknown = set(options.only) - {one.name for one in wanted}
    if unknown:
        sys.exit(f"chaos: no such fault: {', '.join(unknown)}; there are: {', '.join(s.name for s in scenarios(disk))}")
    if any(one.layout.state_dir for one in wanted) and not small_disk(disk, DISK_BYTES):
        console.print("full disk: left out, since a small disk can be mounted by root alone")
        wanted = [one for one in wanted if one.layout.state_dir is None]
    rows: list[Row] = []
    try:
        async with RealAnswers(REAL, models) as real:
            for scenario in wanted:
                rows += await _one(scenario, folder, models, options, real)
    finally:
        unmount(disk)
    return rows


async def _one(
    scenario: Scenario, folder: Path, models: dict[str, Path], options: argparse.Namespace, real: RealAnswers
) -> list[Row]:
    began = time.monotonic()
    place = folder / scenario.name.replace(" ", "-")
    try:
        async with asyncio.timeout(SCENARIO_DEADLINE_S):
            course = await run_scenario(
                scenario, place, models, serving=options.router, count=options.streams, seed=options.seed
            )
            rows = await rows_of(scenario, course, real, options.router)
    except (NotReached, TimeoutError) as failure:
        why = str(failure) or f"it had not ended after {SCENARIO_DEADLINE_S:g} s"
        rows = [failed_row(scenario.name, engine, options.router, why) for engine in scenario.engines]
    said = ", ".join(f"{row.engine} {'; '.join(row.misses) or 'as expected'}" for row in rows)
    console.print(f"{scenario.name}: {said} ({time.monotonic() - began:.0f} s)", soft_wrap=True)
    return rows


def _table(rows: list[Row]) -> Table:
    heads = ("fault", "engine", "streams", "completed", "continued", "failed by design", "tokens wrong")
    table = Table(*heads, "longest stall", "stopped placing", "trials", "later ones", box=None, pad_edge=False)
    for row in rows:
        stop = "-" if row.stop_placing_s is None else f"{row.stop_placing_s:.2f} s"
        counts = (row.streams, row.completed, row.continued, row.failed_by_design, row.tokens_wrong)
        trials, later = str(row.probes), f"{row.later_completed} of {row.later}"
        table.add_row(row.fault, row.engine, *map(str, counts), f"{row.longest_stall_s:.2f} s", stop, trials, later)
    return table


if __name__ == "__main__":
    main()
