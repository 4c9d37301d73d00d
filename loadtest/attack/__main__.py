"""``make attack``: every attack in turn on real processes, one table, ``build/bench/attack.json``.

A pool is started once for each way to serve; attacks follow one another on it, so that what one leaves behind shows in
the next. Everything is on loopback and bounded in time.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.attack.attacks import ATTACKS
from loadtest.attack.machine import IdleServer
from loadtest.attack.pool import AttackedPool
from loadtest.attack.results import commit_here, write_rows
from loadtest.attack.rows import Row
from loadtest.attack.run import run_attack
from loadtest.attack.starts import STARTS, try_start
from loadtest.attack.target import Attack, Pool
from loadtest.chaos.routers import Serving
from router.limits import raise_descriptor_limit
from workers.cli.log_setup import set_up_logging

OUT = Path("build/bench/attack.json")
QUICK_SECONDS = 5.0

console = Console(width=150, highlight=False)


def main() -> None:
    """Command line; exits with 1 when a row is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.attack", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ATTACK", help="e.g. 'idle connections'")
    parser.add_argument("--router", type=Serving, choices=list(Serving), nargs="+", default=list(Serving))
    parser.add_argument("--quick", action="store_true", help="the selection that CI runs, shorter, on a shared machine")
    parser.add_argument("--seconds", type=float, help="of each attack, instead of its own time")
    parser.add_argument("--keep", type=Path, help="a folder for logs; otherwise they go with the run")
    parser.add_argument("--more", action="store_true", help="keep what earlier runs wrote, and add to it")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    names = [*(one.name for one in ATTACKS), *STARTS]
    unknown = set(options.only) - set(names)
    if unknown:
        sys.exit(f"attack: no such attack: {', '.join(unknown)}; there are: {', '.join(names)}")
    set_up_logging("error")
    raise_descriptor_limit()
    wanted = [
        one for one in ATTACKS if one.name in options.only or (not options.only and (one.quick or not options.quick))
    ]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="allsorts-attack-") as temporary:
        for serving in options.router:
            folder = (options.keep or Path(temporary)).resolve() / serving.value
            rows += asyncio.run(_all(wanted, folder, serving, options))
            rows += asyncio.run(_starts(folder, serving, options))
    write_rows(options.out, rows, commit=commit_here(), more=options.more)
    console.print(_table(rows))
    missed = [row for row in rows if row.misses]
    for row in missed:
        console.print(f"{row.attack}, {row.router}: {'; '.join(row.misses)}; {' | '.join(row.errors)}", soft_wrap=True)
    console.print(
        f"attack: {len(rows)} rows, {sum(row.streams_lost for row in rows)} streams lost; "
        f"{len(missed)} not as they must be"
    )
    sys.exit(1 if missed or not rows else 0)


async def _all(wanted: list[Attack], folder: Path, serving: Serving, options: argparse.Namespace) -> list[Row]:
    rows = []
    for kind in Pool:
        these = [attack for attack in wanted if attack.pool is kind]
        if not these:
            continue
        async with IdleServer() as idle, AttackedPool(folder / kind.value, serving, kind=kind) as pool:
            for attack in these:
                seconds = options.seconds or (min(QUICK_SECONDS, attack.seconds) if options.quick else attack.seconds)
                row = await run_attack(attack, pool, idle.url, seconds=seconds, shared=options.quick)
                rows.append(row)
                console.print(
                    f"{attack.name}, {serving}: {'; '.join(row.misses) or 'as it must be'} {row.saw} "
                    f"{row.loop_stalls} stalls {' | '.join(row.culprits)}",
                    soft_wrap=True,
                )
    return rows


async def _starts(folder: Path, serving: Serving, options: argparse.Namespace) -> list[Row]:
    """Starts that cannot succeed."""
    rows = []
    for name in STARTS:
        if name not in options.only and (options.only or options.quick):
            continue
        row = await try_start(name, folder / "starts", serving)
        if row is None:
            console.print(f"{name}, {serving}: left out, since a small disk can be mounted by root alone")
            continue
        rows.append(row)
        console.print(f"{name}, {serving}: {'; '.join(row.misses) or 'as it must be'} {row.errors}", soft_wrap=True)
    return rows


def _table(rows: list[Row]) -> Table:
    heads = (
        "attack",
        "router",
        "streams",
        "lost",
        "probe p99",
        "machine's",
        "stalls",
        "failed",
        "MB over idle",
        "after",
        "descriptors",
        "given back",
        "log",
    )
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        back = "-" if row.given_back_s is None else f"{row.given_back_s:.1f} s"
        held = f"{row.descriptors_idle}, {row.descriptors_most}, {row.descriptors_after}"
        table.add_row(
            row.attack, row.router, str(row.streams_completed), str(row.streams_lost), f"{row.probe_p99_ms:.0f} ms",
            f"{row.machine_p99_ms:.0f} ms", str(row.loop_stalls),
            str(row.probes_failed), f"{row.memory_mb_over_idle:.0f}", f"{row.memory_mb_over_idle_after:.0f}",
            held, back, f"{row.log_kb:.0f} kB",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
