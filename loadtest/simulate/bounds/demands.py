"""What each request costs on each worker, by the workers' true parameters: the ground of both upper bounds.

Every figure is a least one: a prefix counts as cached as soon as anybody sent it before, wherever that was, a KV
block counts once, for whoever sent it first, and where a worker has measured curves, a line below them counts.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadtest.simulate.fleet import FleetSpec, NodeSpec
from loadtest.simulate.router_side import SLO
from loadtest.simulate.traffic import BLOCK_TOKENS, Arrival
from router.scheduling.placement.quality import TabulatedQuality
from workers.engines.simulated.parameters import EngineParameters

Floats = NDArray[np.float64]

LUCK = 0.9
"""Share of its mean time in which a request may be over by the engine's noise (3% of a step): one that could be served
in time at its mean only just not counts as possible.
"""


@dataclass(frozen=True, slots=True)
class Demands:
    """Arrays of one row per request and one column per worker, unless a comment says otherwise."""

    prefill_s: Floats
    decode_s: Floats  # beside the steps' fixed part
    steps: Floats  # decode steps; per request
    held: Floats  # KV tokens of its own, summed over its steps; per request
    possible: NDArray[np.bool_]  # inside the targets on a worker with nothing else to do


def uncached_tokens(arrivals: Sequence[Arrival]) -> Floats:
    """Prompt tokens of each that nobody sent before, at least one."""
    seen: set[int] = set()
    uncached = []
    for one in arrivals:
        known = len(one.block_hashes)
        for depth, block in enumerate(one.block_hashes):
            if block not in seen:
                known = depth
                break
        uncached.append(max(one.prompt_tokens - known * BLOCK_TOKENS, 1))
        seen.update(one.block_hashes)
    return np.array(uncached, dtype=float)


def demands(
    fleet: FleetSpec,
    sample: Sequence[Arrival],
    uncached: Floats,
    true: Sequence[EngineParameters],
    *,
    clairvoyant: bool,
) -> Demands:
    """``clairvoyant`` False: nobody can tell the requests' output lengths apart, so each has the mean one."""
    prompt = np.array([one.prompt_tokens for one in sample], dtype=float)
    steps = np.maximum(np.array([one.output_tokens for one in sample], dtype=float) - 1.0, 0.0)
    square = steps * steps
    if not clairvoyant:
        steps, square = np.full_like(steps, steps.mean()), np.full_like(steps, square.mean())
    context = prompt * steps + square / 2.0
    prefill, decode, possible = [], [], []
    for node, p in zip(fleet.nodes, map(straight, true), strict=True):
        attention = 1.0 + p.prefill_attention * (prompt - uncached / 2.0)
        prefill.append(p.prefill_base_s + uncached * p.prefill_token_s * attention)
        decode.append(steps * p.per_sequence_s + p.per_context_token_s * context)
        possible.append(_possible(sample, prefill[-1], node, p))
    return Demands(
        prefill_s=np.stack(prefill, axis=1),
        decode_s=np.stack(decode, axis=1),
        steps=steps,
        held=uncached * steps + square / 2.0,
        possible=np.stack(possible, axis=1),
    )


def straight(p: EngineParameters) -> EngineParameters:
    """The same engine with lines that lie nowhere above its measured curves."""
    decode, prefill = p.decode_curve_s, p.prefill_curve
    if decode:
        slope = min((later - one for one, later in itertools.pairwise(decode)), default=0.0)
        slope = min(max(slope, 0.0), p.per_sequence_s)
        base = min(step - slope * batch for batch, step in enumerate(decode, 1))
        p = replace(p, base_s=max(min(base, p.base_s), 0.0), per_sequence_s=slope, decode_curve_s=())
    if prefill:
        token_s = min(p.prefill_token_s, *(seconds / tokens for tokens, seconds in prefill))
        p = replace(p, prefill_token_s=token_s, prefill_base_s=0.0, prefill_curve=())
    return p


def ttft_allowed_s(one: Arrival) -> float:
    """From arrival to first token."""
    assert SLO.ttft_s is not None
    return SLO.ttft_s + SLO.ttft_per_prompt_token_s * one.prompt_tokens


def tpot_allowed_s() -> float:
    """From token to token, on the mean over an answer."""
    assert SLO.tpot_s is not None
    return SLO.tpot_s


def _possible(sample: Sequence[Arrival], prefill_s: Floats, node: NodeSpec, p: EngineParameters) -> NDArray[np.bool_]:
    quality = TabulatedQuality()
    found = np.zeros(len(sample), dtype=bool)
    for j, one in enumerate(sample):
        if one.model != node.model or (one.floor and not quality.at_least(node.instance.quantization, one.floor)):
            continue
        step = p.decode_s(1, one.prompt_tokens + one.output_tokens / 2.0)
        in_time = LUCK * prefill_s[j] + node.rtt_s <= ttft_allowed_s(one) and LUCK * step <= tpot_allowed_s()
        found[j] = in_time and one.prompt_tokens + one.output_tokens <= p.context_tokens
    return found
