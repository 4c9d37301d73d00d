"""Traffic: requests with their times, sizes and shared prefixes, made from statistics or read from a trace.

``azure-like`` and ``code-like`` draw from the log-normal fits of the Azure 2023 traces, ``agent-like`` makes
conversations over shared system prompts (FACTS.md, traffic).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loadtest.simulate.draws import (
    AZURE_CONTEXT,
    AZURE_GAP_CV,
    AZURE_GENERATED,
    CODE_CONTEXT,
    CODE_GAP_CV,
    CODE_GENERATED,
    gamma_gaps,
    geometric,
    hyperexponential_gaps,
    lognormal,
)
from loadtest.simulate.fleet import Demand

BLOCK_TOKENS = 64
"""Tokens per text block, as ``router.scheduling.placement.text_blocks`` cuts them (256 bytes of English)."""

LONGEST_PROMPT = 12_000
LONGEST_OUTPUT = 2_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. ``output_tokens`` is how long its answer really gets: no policy may look."""

    number: int
    at: float
    prompt_tokens: int
    output_tokens: int
    block_hashes: tuple[int, ...]
    model: str
    floor: str | None
    tenant: str


Generator = Callable[[float, int, random.Random, Sequence[Demand]], list[Arrival]]


def azure_like(rate: float, count: int, rng: random.Random, demand: Sequence[Demand]) -> list[Arrival]:
    """Chat: context (6.63, 0.99), generated (5.02, 0.86), gap CV 1.09 (FACTS.md)."""
    gaps = gamma_gaps(rate, AZURE_GAP_CV, rng)
    return _single(gaps, count, rng, demand, AZURE_CONTEXT, AZURE_GENERATED)


def code_like(rate: float, count: int, rng: random.Random, demand: Sequence[Demand]) -> list[Arrival]:
    """Code completion: context (7.00, 1.36), generated (2.79, 0.85), gap CV 13 (FACTS.md)."""
    gaps = hyperexponential_gaps(rate, CODE_GAP_CV, rng)
    return _single(gaps, count, rng, demand, CODE_CONTEXT, CODE_GENERATED)


SYSTEM_PROMPTS = 12
TURNS = 4.0
TURN_GAP_S = 15.0


def agent_like(rate: float, count: int, rng: random.Random, demand: Sequence[Demand]) -> list[Arrival]:
    """Agents: sessions of about four turns, each turn's prompt carrying all before it, over twelve system prompts of
    500 to 3,000 tokens; the ideal prefix hit ratio comes out near the upper end of Mooncake's 0.37 to 0.64.
    """
    systems = [rng.randrange(8, 48) for _ in range(SYSTEM_PROMPTS)]  # blocks
    popularity = [1.0 / (place + 1) for place in range(SYSTEM_PROMPTS)]
    found: list[Arrival] = []
    gaps = gamma_gaps(rate / TURNS, AZURE_GAP_CV, rng)
    at, session = 0.0, 0
    while len(found) < 2 * count:  # turns of late sessions lie beyond the cut
        at += next(gaps)
        session += 1
        system = rng.choices(range(SYSTEM_PROMPTS), popularity)[0]
        kind = _draw_kind(demand, rng)
        head = tuple(_block(system + 1, place) for place in range(systems[system]))
        tail: tuple[int, ...] = ()
        turn_at = at
        for _ in range(geometric(TURNS, rng)):
            new = max(int(lognormal(rng, 6.3, 0.9, 16, 6000) / BLOCK_TOKENS), 1)
            output = int(lognormal(rng, 4.9, 0.8, 2, LONGEST_OUTPUT))
            tail += tuple(_block(1000 + session, len(tail) + place) for place in range(new))
            blocks = head + tail
            prompt = len(blocks) * BLOCK_TOKENS + rng.randrange(BLOCK_TOKENS)
            if prompt > LONGEST_PROMPT:
                break
            found.append(Arrival(0, turn_at, prompt, output, blocks, kind.model, kind.floor, f"team-{system % 4}"))
            tail += tuple(_block(1000 + session, len(tail) + place) for place in range(output // BLOCK_TOKENS))
            turn_at += rng.expovariate(1.0 / TURN_GAP_S) + 0.1 * output
    found.sort(key=lambda one: one.at)
    return _numbered(found[:count])


GENERATORS: dict[str, Generator] = {"azure-like": azure_like, "code-like": code_like, "agent-like": agent_like}


def from_sizes(
    sizes: Sequence[tuple[float, int, int, tuple[int, ...]]], demand: Sequence[Demand], rng: random.Random
) -> list[Arrival]:
    """Requests of a trace: (second, prompt tokens, output tokens, block hashes), with models by demand."""
    found = []
    for at, prompt, output, blocks in sizes:
        kind = _draw_kind(demand, rng)
        prompt = min(max(prompt, 1), LONGEST_PROMPT)
        blocks = blocks[: prompt // BLOCK_TOKENS] or _own_blocks(rng, prompt)
        found.append(Arrival(0, at, prompt, max(output, 1), blocks, kind.model, kind.floor, f"team-{rng.randrange(4)}"))
    return _numbered(found)


def at_rate(arrivals: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The same requests with their gaps stretched so that they come at ``rate`` a second."""
    span = arrivals[-1].at - arrivals[0].at
    if span <= 0.0:
        raise ValueError("a trace whose requests all come at once has no rate to change")
    stretch = (len(arrivals) - 1) / span / rate
    first = arrivals[0].at
    return [
        Arrival(
            one.number,
            (one.at - first) * stretch,
            one.prompt_tokens,
            one.output_tokens,
            one.block_hashes,
            one.model,
            one.floor,
            one.tenant,
        )
        for one in arrivals
    ]


def _single(
    gaps: Iterator[float],
    count: int,
    rng: random.Random,
    demand: Sequence[Demand],
    context: tuple[float, float],
    generated: tuple[float, float],
) -> list[Arrival]:
    """Requests that share nothing."""
    found, at = [], 0.0
    for number in range(count):
        at += next(gaps)
        prompt = int(lognormal(rng, *context, 8, LONGEST_PROMPT))
        output = int(lognormal(rng, *generated, 2, LONGEST_OUTPUT))
        kind = _draw_kind(demand, rng)
        found.append(
            Arrival(
                number,
                at,
                prompt,
                output,
                _own_blocks(rng, prompt),
                kind.model,
                kind.floor,
                f"team-{rng.randrange(4)}",
            )
        )
    return found


def _numbered(found: list[Arrival]) -> list[Arrival]:
    return [
        Arrival(n, o.at, o.prompt_tokens, o.output_tokens, o.block_hashes, o.model, o.floor, o.tenant)
        for n, o in enumerate(found)
    ]


def _own_blocks(rng: random.Random, prompt: int) -> tuple[int, ...]:
    start = rng.getrandbits(60)
    return tuple(range(start, start + prompt // BLOCK_TOKENS))


def _block(owner: int, place: int) -> int:
    return owner * 1_000_003 + place


def _draw_kind(demand: Sequence[Demand], rng: random.Random) -> Demand:
    if len(demand) == 1:
        return demand[0]
    return rng.choices(demand, [one.share for one in demand])[0]
