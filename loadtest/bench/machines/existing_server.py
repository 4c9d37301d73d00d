"""A server that already runs, asked directly and through us: who fails, what it adds, what the worker's processor does.

Router under uvicorn, one worker with the ``openai`` engine, a server of our own that takes 64 at once and paces its
tokens; 64 clients in one process. Both ways in turn, round after round.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.machines.paced_server import MODEL
from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all

CONCURRENT, TOKENS = 64, 64
NODE = "existing"
READY_WITHIN_S, STOP_WITHIN_S, TIMEOUT_S = 60.0, 15.0, 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One way, once. ``worker_cpu_s``: for a thousand streams."""

    failed: int
    ttft_p50_s: float
    tpot_p50_s: float
    worker_cpu_s: float = 0.0


def measure(options: argparse.Namespace) -> Mapping[str, float]:
    """The table; ``existing_server_failed``, ``_cpu_s_per_1000`` and ``_added_ttft_ms_p50``."""
    here = Checkout(name="new", folder=Path.cwd())
    direct: list[Round] = []
    through: list[Round] = []
    with TemporaryDirectory() as folder, _server(here) as url, _pool(here, Path(folder), url) as (endpoint, worker):
        _streams(here, endpoint, CONCURRENT, first=0)
        for number in range(options.rounds):
            first = CONCURRENT + 2 * number * options.streams
            direct.append(_round(here, url.removesuffix("/v1"), options.streams, first=first))
            before_s = _cpu_s(worker)
            heard = _round(here, endpoint, options.streams, first=first + options.streams)
            cpu_s = 1000.0 * (_cpu_s(worker) - before_s) / options.streams
            through.append(
                Round(failed=heard.failed, ttft_p50_s=heard.ttft_p50_s, tpot_p50_s=heard.tpot_p50_s, worker_cpu_s=cpu_s)
            )
    for name, rounds in (("direct", direct), ("through us", through)):
        for one in rounds:
            print(
                f"{name:12} failed {one.failed:3}  TTFT p50 {1e3 * one.ttft_p50_s:6.1f} ms  "
                f"TPOT p50 {1e3 * one.tpot_p50_s:5.2f} ms  worker {one.worker_cpu_s:5.2f} s CPU / 1,000 streams"
            )
    return {
        "existing_server_failed": float(sum(one.failed for one in through)),
        "existing_server_cpu_s_per_1000": median(one.worker_cpu_s for one in through),
        "existing_server_added_ttft_ms_p50": 1e3
        * median(ours.ttft_p50_s - theirs.ttft_p50_s for ours, theirs in zip(through, direct, strict=True)),
    }


def _round(here: Checkout, url: str, streams: int, *, first: int) -> Round:
    heard = _streams(here, url, streams, first=first)
    return Round(failed=streams - int(heard["streams"]), ttft_p50_s=heard["ttft_p50_s"], tpot_p50_s=heard["tpot_p50_s"])


def _streams(here: Checkout, url: str, streams: int, *, first: int) -> dict[str, float]:
    options = {"streams": streams, "concurrent": CONCURRENT, "tokens": TOKENS, "first": first}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = here.module("loadtest.bench.house.stream_client", url, "--model", MODEL, "--tolerate", *flags)
    heard: dict[str, float] = json.loads(here.run(command, timeout_s=TIMEOUT_S))
    return heard


def _cpu_s(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _server(here: Checkout) -> Iterator[str]:
    command = here.module("loadtest.bench.machines.paced_server", "--slots", str(CONCURRENT))
    with subprocess.Popen(
        command, cwd=here.folder, env=here.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextmanager
def _pool(here: Checkout, folder: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    """The endpoint, and the worker's process."""
    port, grpc_port = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{port}"
    children: list[Child] = []

    def start(name: str, *arguments: str) -> Child:
        command = here.command(*arguments, "--state-dir", str(folder / name))
        children.append(Child(name, command, log=folder / f"{name}.log", environment=here.environment))
        return children[-1]

    def ready() -> bool:
        return any(one["node"] == NODE and one["state"] == "ready" for one in _fleet(endpoint).get("workers", ()))

    try:
        start("router", "serve", "--without-ray", "--port", str(port), "--grpc-port", str(grpc_port))
        _until(children, lambda: bool(_fleet(endpoint)))
        there = ("--router", f"127.0.0.1:{grpc_port}", "--node", NODE)
        worker = start(NODE, "worker", *there, "--engine", "openai", "--base-url", url, "--no-benchmark")
        _until(children, ready)
        yield endpoint, psutil.Process(worker.pid)
    finally:
        stop_all(children, STOP_WITHIN_S)


def _fleet(endpoint: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{endpoint}/admin/fleet", timeout=5) as reply:
            said = json.loads(reply.read())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _until(children: list[Child], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not reached():
        ended = next((child for child in children if not child.alive), None)
        if ended is not None:
            sys.exit(f"{ended.name} ended while starting:\n{ended.tail()}")
        if time.monotonic() > deadline:
            sys.exit(f"not ready after {READY_WITHIN_S:.0f} s")
        time.sleep(0.1)
