"""Agents: conversations over a dozen long system prompts that many share, with tools, each turn carrying all before."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

from loadtest.locust.workloads.sessions import Session, Sizes, Turn
from loadtest.locust.workloads.text import block, words
from loadtest.simulate.draws import AZURE_GAP_CV, gamma_gaps, geometric, lognormal

SYSTEM_PROMPTS = 12
TURNS = 4.0
THINK_S = 15.0
_SHORTEST, _LONGEST = 500, 3000
"""Tokens of a system prompt."""


def _tool(name: str, description: str, parameter: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = (
    _tool("read_file", "The text of a file of the project.", "path"),
    _tool("search", "Lines of the project that match a pattern.", "pattern"),
    _tool("run_tests", "Run the tests of a folder and report those that fail.", "folder"),
)


def agent_like(rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """Sessions of about four turns with 15 s of thought between; what tools bring is most of what a turn adds."""
    lengths = [rng.randrange(_SHORTEST, _LONGEST) for _ in range(SYSTEM_PROMPTS)]
    popularity = [1.0 / (place + 1) for place in range(SYSTEM_PROMPTS)]
    gaps = gamma_gaps(1.0 / TURNS, AZURE_GAP_CV, rng)
    at = 0.0
    for number in itertools.count():
        at += next(gaps)
        which = rng.choices(range(SYSTEM_PROMPTS), popularity)[0]
        system_tokens = sizes.prompt(lengths[which])
        yield Session(
            number=number,
            at=at,
            kind="agent-like",
            system=block(f"agent {which}", system_tokens),
            turns=tuple(_turns(rng, sizes, system_tokens)),
            tools=TOOLS,
            plain="You may name one of these tools and its argument: "
            + "; ".join(f"{one['function']['name']}: {one['function']['description']}" for one in TOOLS),
        )


def _turns(rng: random.Random, sizes: Sizes, held: int) -> Iterator[Turn]:
    for place in range(geometric(TURNS, rng)):
        new = sizes.prompt(lognormal(rng, 6.3, 0.9, 16, 6000))
        output = sizes.output(lognormal(rng, 4.9, 0.8, 2, 2000))
        held += new
        if place and held > sizes.longest_prompt:
            return
        held += output
        text = words(new, rng)
        think_s = rng.expovariate(1.0 / THINK_S) if place else 0.0
        yield Turn(text=text, output_tokens=output, think_s=think_s, tool_result=text)
