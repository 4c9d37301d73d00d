"""Processor seconds that a router uses for so many paced streams: its work a token, whatever the machine's speed."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.house.pool import MODEL, Pool

CONCURRENT = 64
TOKENS = 64
TIMEOUT_S = 180.0
WARM_UP_STREAMS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """One round of one checkout. ``cpu_s``: of the router, for a thousand streams."""

    cpu_s: float
    ttft_p50_s: float
    tpot_p50_s: float

    def __str__(self) -> str:
        return f"{self.cpu_s:.2f} s CPU, TTFT {1e3 * self.ttft_p50_s:.0f} ms, TPOT {1e3 * self.tpot_p50_s:.2f} ms"


def carry(order: Sequence[Checkout], client: Checkout, folder: Path, streams: int) -> dict[str, Carried]:
    """Fresh pools of all, warmed up, then the streams in two halves: first in order, then in reverse.

    Raises CalledProcessError where a stream is short.
    """
    halves: dict[str, list[Carried]] = {checkout.name: [] for checkout in order}
    with ExitStack() as up:
        pools = [(checkout.name, up.enter_context(Pool(checkout, folder / checkout.name))) for checkout in order]
        for _, pool in pools:
            _streams(client, pool.url, WARM_UP_STREAMS, first=0)
        for number, (name, pool) in enumerate([*pools, *reversed(pools)]):
            halves[name].append(_half(client, pool, streams // 2, first=WARM_UP_STREAMS + number * streams))
    return {
        name: Carried(
            cpu_s=fmean(one.cpu_s for one in both),
            ttft_p50_s=fmean(one.ttft_p50_s for one in both),
            tpot_p50_s=fmean(one.tpot_p50_s for one in both),
        )
        for name, both in halves.items()
    }


def _half(client: Checkout, pool: Pool, streams: int, *, first: int) -> Carried:
    before_s = pool.router_cpu_s()
    heard = _streams(client, pool.url, streams, first=first)
    used_s = pool.router_cpu_s() - before_s
    return Carried(
        cpu_s=1000.0 * used_s / streams,
        ttft_p50_s=heard["ttft_p50_s"],
        tpot_p50_s=heard["tpot_p50_s"],
    )


def _streams(client: Checkout, url: str, streams: int, *, first: int) -> dict[str, float]:
    options = {"streams": streams, "concurrent": CONCURRENT, "tokens": TOKENS, "first": first}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = client.module("loadtest.bench.house.stream_client", url, "--model", MODEL, *flags)
    heard: dict[str, float] = json.loads(client.run(command, timeout_s=TIMEOUT_S))
    return heard
