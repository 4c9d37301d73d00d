"""A trace by its path: the Azure CSV format or the Mooncake JSONL format, at its own times or sped up."""

import random
from collections.abc import Iterator
from pathlib import Path

from loadtest.locust.workloads.sessions import Session, Sizes, Turn
from loadtest.locust.workloads.text import block, words


def from_trace(path: Path, speed_up: float, rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """Its requests, ``at`` in seconds from the first. Prompts share what the trace says they share, block by block.

    Raises InputError (a ConfigError) naming file, line and field.
    """
    from loadtest.simulate.traces import read_trace
    from loadtest.simulate.traffic import BLOCK_TOKENS

    found = read_trace(path)
    first = found[0][0]
    for number, (at, prompt, output, hashes) in enumerate(found):
        tokens = sizes.prompt(prompt)
        shared = hashes[: tokens // BLOCK_TOKENS]
        blocks = [block(f"block {one}", BLOCK_TOKENS) for one in shared]
        rest = tokens - BLOCK_TOKENS * len(shared)
        text = " ".join([*blocks, words(rest, rng)] if rest else blocks)
        yield Session(
            number=number,
            at=(at - first) / speed_up,
            kind="trace",
            turns=(Turn(text=text, output_tokens=sizes.output(output)),),
        )
