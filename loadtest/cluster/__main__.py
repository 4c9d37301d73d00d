"""``make chaos-cluster``: a Ray cluster of four nodes on loopback, and every fault in turn under streams.

One table and ``build/bench/cluster.json``: fault, streams, completed, continued, failed_by_design, tokens_wrong,
state_restored_s. Most streams are simulated workers', some of each real engine's; every token is checked (``judge``).
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.chaos.pool import REAL, SIMULATED
from loadtest.chaos.streams import Stream
from loadtest.chaos.streams import run as run_stream
from loadtest.chaos.waiting import NotReached, until
from loadtest.cluster.clients import served_by
from loadtest.cluster.faults import SECOND, Fault, Stage, faults
from loadtest.cluster.judge import AWQ, AWQ_PROMPT, AWQ_TOKENS, Judge
from loadtest.cluster.pool import JOINED, REAL_FILES, ClusterPool, as_json
from workers.engines.simulated.content import WORDS
from workers.models.smollm2 import make

STREAMS = 100
TOKENS = 200
"""At 0.09 s a step, 18 s: a fault strikes in the middle of every answer."""

REAL_PROMPTS = ("Tell me about the sea.", "What is a mountain?", "How does bread rise?", "Why is the sky blue?")
REAL_TOKENS = 72
SECOND_STREAMS = 10

VLLM_READY_WITHIN_S = 240.0
UNDER_WAY_WITHIN_S = 60.0
ENDED_WITHIN_S = 180.0
OUT = Path("build/bench/cluster.json")

console = Console(width=150, highlight=False)


class Row(msgspec.Struct, kw_only=True):
    """One fault."""

    fault: str
    streams: int = 0
    completed: int = 0
    continued: int = 0
    failed_by_design: int = 0  # of a router replica that was killed
    tokens_wrong: int = 0
    state_restored_s: float = -1.0  # from the strike; -1: it was not
    failure: str = ""
    errors: list[str] = []
    wrong: list[str] = []  # streams with wrong tokens, in words
    notes: dict[str, object] = {}

    @property
    def good(self) -> bool:
        """As it must be."""
        return not self.failure and not self.tokens_wrong and self.completed + self.failed_by_design == self.streams


def main() -> None:
    """Command line; exits with 1 when a row is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.cluster", description=__doc__)
    names = [one.name for one in faults()]
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="FAULT", help=", ".join(names))
    parser.add_argument(
        "--keep", type=Path, help="a folder with a short path, for logs; otherwise they go with the run"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--add", action="store_true", help="keep the rows of other faults that stand there already")
    parser.add_argument(
        "--without-vllm", action="store_true", help="where there is no time to load it; simulated alone"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="as-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            rows = asyncio.run(_all(folder.resolve(), options))
        except NotReached as failure:
            sys.exit(f"chaos-cluster: {failure}")
    console.print(_table(rows))
    for row in rows:
        if not row.good:
            console.print(
                f"{row.fault}: {row.failure or 'streams failed'}; {' | '.join((*row.errors, *row.wrong)[:3])}",
                soft_wrap=True,
            )
    sys.exit(0 if rows and all(row.good for row in rows) else 1)


async def _all(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Every row is kept as soon as it is there."""
    rows: list[Row] = []
    names = [one.name for one in faults()]
    kept: list[Row] = []
    if options.add and options.out.exists():
        kept = msgspec.json.decode(options.out.read_bytes(), type=list[Row])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    make(REAL_FILES["q8_0"].parent, list(REAL_FILES))
    async with Judge(REAL_FILES) as judge, ClusterPool(folder) as pool:
        stage = Stage(pool, pool.profile("h100", "h100-sxm", 0.09), vllm=not options.without_vllm)
        console.print(f"cluster: up after {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        await pool.want(stage.wanted())
        await stage.actors(AWQ, int(stage.vllm), VLLM_READY_WITHIN_S)
        await stage.all_there()
        console.print(f"cluster: the fleet is as wanted after {time.monotonic() - began:.0f} s")
        started = await pool.actors(SIMULATED) | await pool.actors(AWQ)
        await served_by(pool.urls, (SIMULATED, REAL, *((AWQ,) if stage.vllm else ())), started | JOINED)
        if stage.vllm:
            await judge.ask_awq(pool.urls[0])
        console.print(f"cluster: the openai client is served by {', '.join(sorted(started | JOINED))}", soft_wrap=True)
        for fault in (one for one in faults() if one.name in options.only):
            stage.notes = {}
            row = await _one(fault, stage, options.streams, judge)
            rows.append(row)
            options.out.write_bytes(as_json(merged(kept, rows, names)))
            console.print(
                f"{fault.name}: {row.failure or 'restored'} after {row.state_restored_s:.1f} s", soft_wrap=True
            )
            if row.failure:
                break  # what follows would start from a state that nobody wants
    return rows


def merged(kept: list[Row], fresh: list[Row], order: list[str]) -> list[Row]:
    """One row for each fault, the fresh one where there is one."""
    by_name = {one.fault: one for one in (*kept, *fresh)}
    return [by_name[name] for name in order if name in by_name]


def _streams(fault: Fault, count: int, *, vllm: bool) -> list[Stream]:
    """Some of each real engine, some of the second model where it moves, the rest simulated."""
    dice = random.Random(fault.name)
    real = [Stream(model=REAL, prompt=one, max_tokens=REAL_TOKENS) for one in REAL_PROMPTS]
    real += [Stream(model=AWQ, prompt=AWQ_PROMPT, max_tokens=AWQ_TOKENS)] if vllm else []
    words = [" ".join(dice.choices(WORDS, k=60)) for _ in range(count - len(real))]
    of_second = SECOND_STREAMS if fault.second else 0
    return [
        *real,
        *(
            Stream(model=SECOND if number < of_second else SIMULATED, prompt=one, max_tokens=TOKENS)
            for number, one in enumerate(words)
        ),
    ]


async def _one(fault: Fault, stage: Stage, count: int, judge: Judge) -> Row:
    row = Row(fault=fault.name, streams=count, notes=stage.notes)
    try:
        await fault.prepare(stage)
    except NotReached as failure:
        row.failure = f"before it: {failure}"
        return row
    streams = _streams(fault, count, vllm=stage.vllm)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        tasks = [
            asyncio.create_task(run_stream(one, session, stage.pool.urls[number % 2], lambda: None))
            for number, one in enumerate(streams)
        ]
        try:
            await until(_under_way(streams), UNDER_WAY_WITHIN_S, "every stream is in the middle of its answer")
            struck_at = time.monotonic()
            await fault.strike(stage)
            await fault.restored(stage)
            row.state_restored_s = round(time.monotonic() - struck_at, 1)
        except NotReached as failure:
            row.failure = str(failure)
        await asyncio.wait(tasks, timeout=ENDED_WITHIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    count_streams(row, streams, fault)
    wrong = [await judge.wrong(one) for one in streams]
    row.tokens_wrong = sum(wrong)
    row.wrong = [
        f"{one.model}, {count} wrong: {one.in_words(0.0)}" for one, count in zip(streams, wrong, strict=True) if count
    ]
    if not row.failure:
        try:
            await fault.after(stage)
        except (NotReached, RuntimeError) as failure:
            row.failure = f"after it: {failure}"
    return row


def _under_way(streams: list[Stream]) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return all(len(one.event_times) >= 2 or one.over for one in streams)

    return reached


def count_streams(row: Row, streams: list[Stream], fault: Fault) -> None:
    """Into the row: what became of its streams."""
    row.completed = sum(one.completed for one in streams)
    row.continued = sum(bool(one.moves) for one in streams if one.completed)
    broken = [one for one in streams if not one.completed]
    if fault.breaks_streams:  # its connection went with the replica, in the middle of the answer
        row.failed_by_design = sum(bool(one.event_times) for one in broken)
    row.errors = sorted({one.error or "it did not end" for one in broken})


def _table(rows: list[Row]) -> Table:
    heads = ("fault", "streams", "completed", "continued", "failed by design", "tokens wrong", "state restored")
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        counts = (row.streams, row.completed, row.continued, row.failed_by_design, row.tokens_wrong)
        table.add_row(row.fault, *map(str, counts), f"{row.state_restored_s:.1f} s")
    return table


if __name__ == "__main__":
    main()
