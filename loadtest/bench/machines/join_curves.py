"""The join benchmark on emulated GPUs: what it finds against what was recorded on the card, and in how many seconds."""

import argparse
import asyncio
from collections.abc import Mapping
from statistics import median

from loadtest.emulate.joined import errors, join
from loadtest.emulate.recording import read_recording, recordings

SEEDS = (0, 1, 2)


def measure(options: argparse.Namespace) -> Mapping[str, float]:
    """The table; ``join_decode_median_error``, ``join_decode_worst_error``, ``join_prefill_error`` (the worst)."""
    del options
    return asyncio.run(_measure())


async def _measure() -> Mapping[str, float]:
    decode: list[float] = []
    prefill: list[float] = []
    print("the join benchmark on recorded GPUs (relative errors; batches 1 to 64)")
    headings = "  ".join(("seconds", " median", "worst", "that day", "prefill", "steps in ms by batch"))
    print(f"{'recording':24} {headings}")
    for name in recordings():
        recording = read_recording(name)
        worst, middle, prompts, took = [], [], [], []
        for seed in SEEDS:
            speed, seconds = await join(recording, seed=seed)
            found = errors(recording, speed)
            decode += found.decode.values()
            prefill += found.prefill.values()
            worst.append(found.decode_worst)
            middle.append(found.decode_median)
            prompts.append(found.prefill_worst)
            took.append(seconds)
        base_s, per_sequence_s, per_context_s, _, _ = recording.joins[-1]
        context = recording.context_per_sequence
        before = max(
            abs((base_s + batch * (per_sequence_s + context * per_context_s)) / seconds - 1.0)
            for batch, seconds in recording.decode
        )
        steps = ", ".join(f"{batch}: {1e3 * speed.step_s(batch, batch * context):.2f}" for batch, _ in recording.decode)
        row = f"{median(took):7.1f}  {median(middle):7.1%}  {max(worst):5.1%}  {before:8.0%}  {max(prompts):7.1%}"
        print(f"{name:24} {row}  {steps}")
    return {
        "join_decode_median_error": median(decode),
        "join_decode_worst_error": max(decode),
        "join_prefill_error": max(prefill),
    }
