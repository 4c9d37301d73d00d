"""``make bench-engine``: our llama.cpp engine, the high-level class and llama.cpp's own server on one file.

One thread each, prompts of 64 to 512 tokens, 128 output tokens with end-of-sequence ignored, greedy. Ours runs as it
does by default, and once more with ``exact``, for what that costs. The server runs with a KV cache for each slot, its
default, and with a unified one; ours is compared with the faster of the two. Contestants take turns within a run;
ratios are taken within a run, so that what the machine does meanwhile touches both sides. On a busy machine tokens for
a second of the processor say more than those for one of the clock.
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
SERVERS = ("server", "unified")
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


async def one_run(
    model: Path, engine: OurEngine, exact: OurEngine, dice: random.Random, samples: Samples, numbers: Sequence[int]
) -> None:
    """Every contestant once at every concurrency, in turn, and one pair of requests that share a prefix."""
    for streams in numbers:
        asked = prompts(dice, streams)
        _note(samples, f"ours {streams}", await engine.wave(asked))
        _note(samples, f"exact {streams}", await exact.wave(asked))
        _note(samples, f"server {streams}", await own_server(model, asked))
        unified = streams > 1  # one slot has one cache either way
        _note(samples, f"unified {streams}", await own_server(model, asked, unified=unified))
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
    samples[f"{name} cpu"].append(wave.tokens_per_cpu_s)
    console.print(
        f"  {name:12} {wave.tokens_per_s:7.1f} tokens/s in {wave.seconds:6.1f} s, {wave.cpu_s:6.1f} s of the processor",
        highlight=False,
    )


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median of the ratios within each run, with the least and the largest."""
    values = [one / other for one, other in zip(above, below, strict=True)]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def faster_server(samples: Samples, streams: int, suffix: str = "") -> list[float]:
    """What ours is compared with at so many streams: the better of the server's modes, by the median of all runs."""
    return max((samples[f"{mode} {streams}{suffix}"] for mode in SERVERS), key=statistics.median)


def report(samples: Samples, runs: int, numbers: Sequence[int]) -> dict[str, Any]:
    """The table, the summary line, and the figures."""
    columns = ("contestant", "streams", "tokens/s", "spread", "tokens/cpu s", "spread")
    table = Table(*columns, box=None, pad_edge=False)
    for streams in numbers:
        for who in ("ours", "exact", *SERVERS):
            name = f"{who} {streams}"
            table.add_row(who, str(streams), *_cells(samples[name]), *_cells(samples[f"{name} cpu"]))
    table.add_row("high-level", "1 by 1", *_cells(samples["high-level"]), *_cells(samples["high-level cpu"]))
    console.print(table)
    most = max(numbers)
    middle = 8 if 8 in numbers else most
    high = ratio(samples[f"ours {most}"], samples["high-level"])
    server = {one: ratio(samples[f"ours {one}"], faster_server(samples, one)) for one in numbers}
    by_cpu = {one: ratio(samples[f"ours {one} cpu"], faster_server(samples, one, " cpu")) for one in numbers}
    exact = {one: ratio(samples[f"exact {one}"], samples[f"ours {one}"]) for one in numbers}
    exact_by_cpu = {one: ratio(samples[f"exact {one} cpu"], samples[f"ours {one} cpu"]) for one in numbers}
    prefix = ratio(samples["second ttft"], samples["first ttft"])
    figures = {
        f"vs_high_level_{most}": high["median"],
        f"vs_xllamacpp_{middle}": server[middle]["median"],
        "prefix_ttft_ratio": prefix["median"],
        "spread": {
            f"vs_high_level_{most}": [high["low"], high["high"]],
            f"vs_xllamacpp_{middle}": [server[middle]["low"], server[middle]["high"]],
            "prefix_ttft_ratio": [prefix["low"], prefix["high"]],
        },
        "vs_xllamacpp": _medians(server),
        "vs_xllamacpp_cpu": _medians(by_cpu),
        "exact_share": _medians(exact),
        "exact_share_cpu": _medians(exact_by_cpu),
        "tokens_per_s": {
            name: statistics.median(values) for name, values in samples.items() if not name.endswith(("ttft", "cpu"))
        },
        "tokens_per_cpu_s": {
            name: statistics.median(values) for name, values in samples.items() if name.endswith("cpu")
        },
        "ttft_s": {name: statistics.median(values) for name, values in samples.items() if "ttft" in name},
        "runs": runs,
        "output_tokens": OUTPUT_TOKENS,
    }
    told = ", ".join(f"{server[one]['median']:.2f}x at {one} ({by_cpu[one]['median']:.2f}x by cpu)" for one in numbers)
    console.print(
        f"bench-engine: {high['median']:.2f}x the high-level class at {most} streams; llama.cpp's server in its faster "
        f"mode: {told}; second TTFT {prefix['median']:.2f} of the first ({runs} runs)",
        soft_wrap=True,
        highlight=False,
    )
    return figures


def _medians(ratios: dict[int, dict[str, float]]) -> dict[str, float]:
    return {str(streams): one["median"] for streams, one in ratios.items()}


def _cells(values: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"


async def _measure(model: Path, runs: int, numbers: Sequence[int]) -> Samples:
    samples: Samples = defaultdict(list)
    slots = max(numbers)
    async with OurEngine(model, slots) as engine, OurEngine(model, slots, exact=True) as exact:
        await engine.wave(["warm up"])
        await exact.wave(["warm up"])
        for run in range(runs):
            console.print(f"run {run + 1} of {runs}")
            await one_run(model, engine, exact, random.Random(run), samples, numbers)
    return samples


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--quantization", default="q8_0")
    parser.add_argument("--out", type=Path, default=Path("build/bench/engine.json"))
    arguments = parser.parse_args()
    quieten_llama()
    model = make(Path("build/models"), [arguments.quantization])[arguments.quantization]
    samples = asyncio.run(_measure(model, arguments.runs, arguments.streams))
    figures = report(samples, arguments.runs, arguments.streams) | {"quantization": arguments.quantization}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
