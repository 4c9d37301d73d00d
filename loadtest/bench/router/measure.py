"""One cell of the table: streams through one contender, and what its processes used meanwhile."""

import json
from dataclasses import dataclass

import psutil

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.router.contenders import Contender
from loadtest.chaos.routers import REPLICA

TIMEOUT_S = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one cell sends. ``rate``: streams that begin in a second; 0: each client's next as its last has ended."""

    model: str
    concurrent: int
    streams: int
    tokens: int
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What came of it. Processor seconds are for a thousand streams: the router's whole tree, its replica, workers."""

    failed: int
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float
    tokens_per_s: float
    cpu_s: float
    replica_cpu_s: float
    worker_cpu_s: float


def cell(here: Checkout, contender: Contender, load: Load, first: int) -> Cell:
    """Run the client once. ``first``: the number of its first prompt."""
    before = _cpu(contender)
    heard = client(here, contender.url, load, first)
    after = _cpu(contender)
    tree, replica, workers = (1000.0 * (late - early) / load.streams for early, late in zip(before, after, strict=True))
    return Cell(
        failed=int(heard["failed"]),
        **{name: heard[name] for name in ("ttft_p50_s", "ttft_p99_s", "itl_p50_s", "itl_p99_s")},
        tokens_per_s=heard["tokens"] / heard["wall_s"],
        cpu_s=tree,
        replica_cpu_s=replica,
        worker_cpu_s=workers,
    )


def client(here: Checkout, url: str, load: Load, first: int) -> dict[str, float]:
    """The client program's own figures."""
    options = {"model": load.model, "streams": load.streams, "tokens": load.tokens}
    options |= {"rate": load.rate} if load.rate else {"concurrent": load.concurrent}
    flags = [text for name, value in {**options, "first": first}.items() for text in (f"--{name}", str(value))]
    command = here.module("loadtest.bench.router.stream_client", url, *flags)
    heard: dict[str, float] = json.loads(here.run(command, timeout_s=TIMEOUT_S))
    return heard


def resident_mib(contender: Contender) -> float:
    """Resident memory of the router's whole tree; pages that its processes share are counted in each."""
    return sum(_rss(one) for one in _tree(contender)) / 2**20


def replica_mib(contender: Contender) -> float:
    """The same of what routes: the Serve replica, or the whole of a router that is one process."""
    tree = _tree(contender)
    return sum(_rss(one) for one in _replicas(tree) or tree) / 2**20


def _cpu(contender: Contender) -> tuple[float, float, float]:
    tree = _tree(contender)
    whole = sum(_cpu_s(one) for one in tree)
    replicas = _replicas(tree)
    workers = sum(_cpu_s(psutil.Process(worker.pid)) for worker in contender.workers)
    return whole, sum(_cpu_s(one) for one in replicas) if replicas else whole, workers


def _tree(contender: Contender) -> list[psutil.Process]:
    if contender.router is None:
        return []
    root = psutil.Process(contender.router.pid)
    return [root, *root.children(recursive=True)]


def _replicas(tree: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for one in tree:
        try:
            if any(part.startswith(REPLICA) for part in one.cmdline()[:1]):
                found.append(one)
        except psutil.Error:
            continue
    return found


def _cpu_s(one: psutil.Process) -> float:
    try:
        times = one.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _rss(one: psutil.Process) -> int:
    try:
        return int(one.memory_info().rss)
    except psutil.Error:
        return 0
