"""``make bench-router``: what a router adds to a stream, ours beside other people's."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.bench.figures import keep
from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.router.contenders import CONTENDERS, Contender, Starter, backend, peers_are_installed
from loadtest.bench.router.measure import Cell, Load, cell, client, replica_mib, resident_mib
from loadtest.bench.router.paced_backend import STEP_S
from loadtest.bench.router.rows import row, table, unpaced

PACED = {1: ("paced", 24), 16: ("paced", 256), 64: ("paced", 1024), 256: ("paced-40", 1024)}
"""By concurrency: the pace, and how many streams. 256 at 10 ms would be 25,600 events a second: more than two cores of
clients and backends can tell apart."""
TOKENS = 64
UNPACED = Load(model="unpaced", concurrent=64, streams=512, tokens=256)
HELD = Load(model="slow", concurrent=2000, streams=2000, tokens=12)
SHORT = Load(model="unpaced", concurrent=32, streams=10_000, tokens=2)
SLOW_SHARE = 0.125
"""LiteLLM gets so much of each load: it takes a minute where others take ten seconds."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"{', '.join(CONTENDERS)}; direct comes along")
    parser.add_argument("--concurrency", default="1,16,64,256")
    parser.add_argument("--held", type=int, default=HELD.concurrent, help="streams to hold at once; 0: not tried")
    parser.add_argument("--requests", type=int, default=SHORT.streams, help="before memory is read; 0: not tried")
    parser.add_argument("--together", action="store_true", help="all clients ask in the same moment, again and again")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(CONTENDERS)
    names = ["direct", *(name for name in names if name != "direct")]
    if not peers_are_installed():
        left_out = [name for name in names if CONTENDERS[name] not in (Starter.direct, Starter.ours)]
        print(f"not installed in .venv-peers, left out: {', '.join(left_out)}", file=sys.stderr)
        names = [name for name in names if name not in left_out]
    concurrencies = [int(one) for one in options.concurrency.split(",")]
    with _everybody(names) as (here, contenders):
        loads = {str(many): _paced(many, together=options.together) for many in concurrencies} | {"unpaced": UNPACED}
        cells = _rounds(here, contenders, loads, options.rounds)
        rows = [row(name, many, cells[str(many)]) for many in concurrencies for name in names]
        speeds = unpaced(cells["unpaced"])
        beside = {name: _extremes(here, one, options.held, options.requests) for name, one in contenders.items()}
    for one in rows:
        one |= speeds[one["router"]] | beside[one["router"]]
    print("\n".join(table(rows)))
    for name in names:
        print(f"{name:<15} {speeds[name]['tokens_per_s_unpaced']:>9,.0f} tokens/s unpaced; {_said(beside[name])}")
    path = keep("router", {"rows": rows, "rounds": options.rounds, "machine": _machine()})
    print(f"bench-router: {_summary(rows)}; {path}")


def _paced(many: int, *, together: bool) -> Load:
    """Streams of the paced models, ``many`` at once: exactly, or as many on average as begin while one runs."""
    model, streams = PACED[many]
    rate = 0.0 if together else many / (TOKENS * STEP_S[model])
    return Load(model=model, concurrent=many, streams=streams, tokens=TOKENS, rate=rate)


@contextmanager
def _everybody(names: list[str]) -> Iterator[tuple[Checkout, dict[str, Contender]]]:
    """All contenders up at once, so that rounds can take turns."""
    here = Checkout.here()
    folder = Path("build/bench/router")
    folder.mkdir(parents=True, exist_ok=True)
    with backend(here) as url:
        starter = Starter(here, folder, url)
        try:
            yield here, {name: starter.start(name) for name in names}
        finally:
            starter.stop()


def _rounds(
    here: Checkout, contenders: dict[str, Contender], loads: dict[str, Load], rounds: int
) -> dict[str, dict[str, list[Cell]]]:
    """Every load through everybody, round after round, beginning with another each time."""
    cells: dict[str, dict[str, list[Cell]]] = {load: {name: [] for name in contenders} for load in loads}
    names, first = list(contenders), 0
    for name in names:  # warm-up
        client(here, contenders[name].url, Load(model="paced", concurrent=16, streams=32, tokens=8), 10_000_000)
    for number in range(rounds):
        for label, load in loads.items():
            for name in names[number % len(names) :] + names[: number % len(names)]:
                share = SLOW_SHARE if name == "litellm" else 1.0
                some = replace(load, streams=max(round(load.streams * share), min(load.streams, load.concurrent)))
                began = time.monotonic()
                one = cell(here, contenders[name], some, first)
                first += load.streams
                cells[label][name].append(one)
                print(f"  round {number + 1}, {label}: {name} {1e3 * one.ttft_p50_s:.1f} ms, {one.cpu_s:.2f} s CPU, "
                      f"{one.failed} failed, took {time.monotonic() - began:.0f} s", file=sys.stderr)  # fmt: skip
    return cells


def _extremes(here: Checkout, one: Contender, held: int, requests: int) -> dict[str, Any]:
    """Streams held at once, and memory after many short requests."""
    found: dict[str, Any] = {}
    if one.router is not None:
        found["resident_mib"] = round(resident_mib(one), 1)
    if held:
        load = Load(model=HELD.model, concurrent=held, streams=held, tokens=HELD.tokens)
        heard = client(here, one.url, load, 20_000_000)
        found["held_streams"], found["held_failed"] = held, int(heard["failed"])
    if requests and one.router is not None:
        streams = max(int(requests * (SLOW_SHARE if one.name == "litellm" else 1.0)), 1)
        short = Load(model=SHORT.model, concurrent=SHORT.concurrent, streams=streams, tokens=SHORT.tokens)
        client(here, one.url, short, 30_000_000)
        found |= {"after_requests": streams, "resident_mib_after": round(resident_mib(one), 1),
                  "replica_mib_after": round(replica_mib(one), 1)}  # fmt: skip
    return found


def _said(found: dict[str, Any]) -> str:
    parts = []
    if "held_failed" in found:
        parts.append(f"{found['held_streams'] - found['held_failed']:,} of {found['held_streams']:,} streams held")
    if "resident_mib_after" in found:
        before, after = found["resident_mib"], found["resident_mib_after"]
        parts.append(f"{before:.0f} MiB, {after:.0f} after {found['after_requests']:,} requests")
    return ", ".join(parts)


def _summary(rows: list[dict[str, Any]]) -> str:
    at = {one["router"]: one for one in rows if one["concurrency"] == 64}
    if "uvicorn" not in at:
        return f"{len(rows)} rows"
    ours = at["uvicorn"]
    said = f"at 64 ours under uvicorn adds {ours['added_ttft_ms_p50']:.1f} ms (p99 {ours['added_ttft_ms_p99']:.1f})"
    said += f", {ours['tokens_per_s_unpaced']:,.0f} tokens/s unpaced"
    if "vllm-router" in at:
        said += f", {ours['cpu_s_per_1000'] / at['vllm-router']['cpu_s_per_1000']:.2f}x of vllm-router's CPU"
    return said


def _machine() -> str:
    import os
    import platform

    return f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
