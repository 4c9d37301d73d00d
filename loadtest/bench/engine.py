"""``make bench-engine``: our llama.cpp engine, the high-level class and llama.cpp's own server on one file.

One thread each, prompts of 64 to 512 tokens, 128 output tokens with end-of-sequence ignored, greedy. Ours runs as it
does by default, and once more with ``exact``, for what that costs. Contestants take turns within a run; ratios are
taken within a run, so that what the machine does meanwhile touches both sides.
"""

import argparse
import asyncio
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.peers.engines import OUTPUT_TOKENS, OurEngine, Wave, high_level, own_server
from workers.models.smollm2 import make, quieten_llama

STREAMS = (1, 4, 8, 16)
RUNS = 5
PROMPT_TOKENS = (64, 512)
HIGH_LEVEL_PROMPTS = 4
"""The high-level class runs one after the other: its throughput does not depend on how many there are."""
PREFIX_TOKENS = 400
_WORDS = ("river", "stone", "seven", "green", "of", "under", "light", "paper", "house", "when")  # one token each

console = Console(width=100)
Samples = dict[str, list[float]]


def prompts(dice: random.Random, count: int) -> list[str]:
    """Prompts without a common start, of lengths spread by equal factors over the range, as real prompts are."""
    low, high = PROMPT_TOKENS
    middle = (index / (count - 1) if count > 1 else 0.5 for index in range(count))
    return [_words(dice, round(low * (high / low) ** share)) for share in middle]


def _words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choice(_WORDS) for _ in range(count))


async def one_run(model: Path, engine: OurEngine, exact: OurEngine, dice: random.Random, samples: Samples) -> None:
    """Every contestant once at every concurrency, in turn, and one pair of requests that share a prefix."""
    for streams in STREAMS:
        asked = prompts(dice, streams)
        _note(samples, f"ours {streams}", await engine.wave(asked))
        _note(samples, f"exact {streams}", await exact.wave(asked))
        _note(samples, f"server {streams}", await own_server(model, asked))
    asked = prompts(dice, HIGH_LEVEL_PROMPTS)
    _note(samples, "high-level", await asyncio.to_thread(high_level, model, asked))
    await _prefix_pair(engine, dice, samples)


async def _prefix_pair(engine: OurEngine, dice: random.Random, samples: Samples) -> None:
    """The second request begins while the first, with the same 400 tokens in front, is still being answered."""
    prefix = _words(dice, PREFIX_TOKENS)
    first_s, first = await engine.first_token(f"{prefix} house", tokens=300)
    second_s, second = await engine.first_token(f"{prefix} paper when")
    await engine.end(second)
    await engine.end(first)
    samples["first ttft"].append(first_s)
    samples["second ttft"].append(second_s)


def _note(samples: Samples, name: str, wave: Wave) -> None:
    samples[name].append(wave.tokens_per_s)
    console.print(f"  {name:12} {wave.tokens_per_s:7.1f} tokens/s in {wave.seconds:6.1f} s", highlight=False)


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median of the ratios within each run, with the least and the largest."""
    values = [one / other for one, other in zip(above, below, strict=True)]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def report(samples: Samples, runs: int) -> dict[str, Any]:
    """The table, the summary line, and the figures."""
    table = Table("contestant", "streams", "tokens/s", "spread", box=None, pad_edge=False)
    for streams in STREAMS:
        for who in ("ours", "exact", "server"):
            table.add_row(who, str(streams), *_cells(samples[f"{who} {streams}"]))
    table.add_row("high-level", "1 by 1", *_cells(samples["high-level"]))
    console.print(table)
    high = ratio(samples["ours 16"], samples["high-level"])
    server = {streams: ratio(samples[f"ours {streams}"], samples[f"server {streams}"]) for streams in STREAMS}
    exact = {streams: ratio(samples[f"exact {streams}"], samples[f"ours {streams}"]) for streams in STREAMS}
    prefix = ratio(samples["second ttft"], samples["first ttft"])
    figures = {
        "vs_high_level_16": high["median"],
        "vs_xllamacpp_8": server[8]["median"],
        "prefix_ttft_ratio": prefix["median"],
        "spread": {
            "vs_high_level_16": [high["low"], high["high"]],
            "vs_xllamacpp_8": [server[8]["low"], server[8]["high"]],
            "prefix_ttft_ratio": [prefix["low"], prefix["high"]],
        },
        "vs_xllamacpp": {str(streams): one["median"] for streams, one in server.items()},
        "exact_share": {str(streams): one["median"] for streams, one in exact.items()},
        "tokens_per_s": {name: statistics.median(values) for name, values in samples.items() if "ttft" not in name},
        "ttft_s": {name: statistics.median(values) for name, values in samples.items() if "ttft" in name},
        "runs": runs,
        "output_tokens": OUTPUT_TOKENS,
    }
    console.print(
        f"bench-engine: {high['median']:.2f}x the high-level class at 16 streams, {server[8]['median']:.2f}x "
        f"llama.cpp's server at 8, second TTFT {prefix['median']:.2f} of the first ({runs} runs)",
        soft_wrap=True,
        highlight=False,
    )
    return figures


def _cells(values: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"


async def _measure(model: Path, runs: int) -> Samples:
    samples: Samples = defaultdict(list)
    slots = max(STREAMS)
    async with OurEngine(model, slots) as engine, OurEngine(model, slots, exact=True) as exact:
        await engine.wave(["warm up"])
        await exact.wave(["warm up"])
        for run in range(runs):
            console.print(f"run {run + 1} of {runs}")
            await one_run(model, engine, exact, random.Random(run), samples)
    return samples


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--quantization", default="q8_0")
    parser.add_argument("--out", type=Path, default=Path("build/bench/engine.json"))
    arguments = parser.parse_args()
    quieten_llama()
    model = make(Path("build/models"), [arguments.quantization])[arguments.quantization]
    samples = asyncio.run(_measure(model, arguments.runs))
    figures = report(samples, arguments.runs) | {"quantization": arguments.quantization}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
