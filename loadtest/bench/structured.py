"""``make bench-engine``, its second part: what keeping to a schema costs a step at batch 8, and whether answers fit.

The cost is that of whole waves of eight streams, kept to a schema against free, in turns within a run; and of seven
free streams beside one that is kept. Speculation is off: text that repeats itself would pay for the mask. The share is
that of answers, drawn at temperature 1, that ended by themselves and validate (see ``schemas_served``).
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from loadtest.bench import schemas_served
from loadtest.bench.figures import keep, known
from loadtest.bench.json_schemas import REAL, drawn
from loadtest.bench.quiet import Quiet
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job, Sampling
from protos.contract.stream import Delta
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.models.smollm2 import make, quieten_llama

BATCH = 8
TOKENS = 96
RUNS = 5
DRAWN = 280
ENDLESS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["name", "size"],
    },
    "minItems": 500,
}
"""Whatever is written, more must come."""

console = Console(width=100)


class Bench:
    """One engine with eight slots."""

    def __init__(self, model: Path) -> None:
        self._spec = ModelSpec(
            name="bench", path=str(model), context_tokens=1024, slots=BATCH, options={"speculate": False, "threads": 1}
        )
        self._engine = LlamaCppEngine()
        self._deltas: dict[str, list[Delta]] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._at: dict[str, list[float]] = {}
        self._number = 0

    async def __aenter__(self) -> Self:
        self._loaded = await self._engine.load(self._spec, lambda _fraction, _message: None)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._engine.close()

    async def start(self, schema: Any, sampling: Sampling) -> str:
        """Ask for one answer; its name. ``schema`` None: it is free."""
        self._number += 1
        name = f"r{self._number}"
        self._deltas[name], self._ended[name], self._at[name] = [], asyncio.Event(), []
        grammar = None if schema is None else Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(schema))
        job = Job(
            request_id=RequestId(name),
            attempt=1,
            model="bench",
            quantization=self._loaded.quantization,
            messages=(ChatMessage(role="user", content=f"Answer number {self._number} as JSON."),),
            sampling=sampling,
            grammar=grammar,
        )
        await self._engine.submit(job)
        return name

    async def ended(self, name: str) -> None:
        """Wait for its end."""
        await self._ended[name].wait()

    async def token_s(self, schemas: Iterable[Any], *, of_the_free: bool = False) -> tuple[float, float]:
        """Seconds between two tokens of eight streams that run together, the median of all gaps; and processor seconds
        of this process for each step, the masks' own threads included: a busy neighbour moves them less.
        """
        began = time.process_time()
        sampling = Sampling(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS, ignore_eos=True)
        asked = [(await self.start(schema, sampling), schema) for schema in schemas]
        for name, _ in asked:
            await self.ended(name)
        gaps = []
        for name, schema in asked:
            if schema is None or not of_the_free:
                times = self._at[name][8:]  # the first come while others are prefilled
                gaps += [after - before for before, after in pairwise(times)]
        return statistics.median(gaps), (time.process_time() - began) / TOKENS

    async def _read(self) -> None:
        async for result in self._engine.steps():
            now = time.perf_counter()
            for delta in result.deltas:
                self._deltas[delta.request_id].append(delta)
                if delta.token_count:
                    self._at[delta.request_id].append(now)
                if delta.finish_reason is not None:
                    self._ended[delta.request_id].set()


async def mask_cost(bench: Bench, runs: int) -> dict[str, Any]:
    """Shares of a step: of eight streams that are all kept to a schema, and of seven free ones beside one that is."""
    quiet = Quiet(console.print)
    await bench.token_s([ENDLESS] * BATCH)

    async def pair() -> tuple[float, float, float, float]:
        free, free_cpu = await bench.token_s([None] * BATCH)
        kept, kept_cpu = await bench.token_s([ENDLESS] * BATCH)
        mixed, _ = await bench.token_s([ENDLESS] + [None] * (BATCH - 1), of_the_free=True)
        return free, kept / free - 1.0, kept_cpu / free_cpu - 1.0, mixed / free - 1.0

    found = []
    for run in range(runs):
        found.append(await quiet.measured(f"run {run + 1}", pair))
        free, kept, cpu, beside = found[-1]
        console.print(
            f"run {run + 1}: {free * 1e3:.1f} ms a step, {kept:+.1%} kept ({cpu:+.1%} cpu), {beside:+.1%} beside"
        )
    _, all_kept, all_cpu, all_beside = zip(*found, strict=True)
    return {
        "mask_cost": statistics.median(all_kept),
        "mask_cost_cpu": statistics.median(all_cpu),
        "mask_cost_beside": statistics.median(all_beside),
        "mask_cost_others_cpus": statistics.median(quiet.others_cpus.values()),
    }


async def _mask_cost(model: Path, runs: int) -> dict[str, Any]:
    async with Bench(model) as bench:
        return await mask_cost(bench, runs)


def valid_share(engines: Sequence[str], model: Path, count: int) -> dict[str, Any]:
    """Of ``count`` drawn schemas and the real kinds, on each engine, streamed and not."""
    schemas = [*REAL.values(), *drawn(count)]
    served = dict(known("clients").get("schemas", {}))  # of engines measured before
    for engine in engines:
        served[engine] = schemas_served.measure(engine, schemas, model)
        console.print(f"{engine}: {json.dumps(served[engine])}", soft_wrap=True)
    return {"schema_valid_share": schemas_served.share(list(served.values())), "schemas": served}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--schemas", type=int, default=DRAWN, help="drawn, beside the real kinds")
    parser.add_argument("--engines", nargs="+", choices=["llama.cpp", "vllm"], help="default: those there are")
    parser.add_argument("--part", choices=["cost", "share", "both"], default="both")
    arguments = parser.parse_args()
    quieten_llama()
    model = make(Path("build/models"), ["q8_0"])["q8_0"]
    figures: dict[str, Any] = {}
    if arguments.part in ("cost", "both"):
        figures |= asyncio.run(_mask_cost(model, arguments.runs))
    if arguments.part in ("share", "both"):
        figures |= valid_share(arguments.engines or schemas_served.engines(), model, arguments.schemas)
    console.print(json.dumps(figures), soft_wrap=True)
    keep("clients", figures)


if __name__ == "__main__":
    main()
