"""The best achievable goodput: an upper bound by linear programme on the fleet's true capacities.

Fluid: requests of each kind flow to workers at constant rates. A worker that decodes without pause takes at least
``1 / TPOT target`` steps a second, and as many as its slots and its KV cache make it take; each second those steps'
fixed part, every token's own part and every prompt's prefill have to fit into one second. No queue, no chance, every
size known beforehand, every prefix that anybody sent before found in whichever cache is used. Real arrivals vary and
real prompts wait behind others, so what a policy reaches lies below.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from loadtest.simulate.fleet import FleetSpec, NodeSpec
from loadtest.simulate.router_side import SLO
from loadtest.simulate.traffic import BLOCK_TOKENS, Arrival
from router.placement.tabulated_quality import TabulatedQuality
from workers.engines.simulated.parameters import EngineParameters

SAMPLE = 1500
"""Requests of the traffic that stand for all..."""

FLOWS = 60_000
"""...unless times the workers they make more unknowns than this: then fewer do."""

MAY_MISS = 0.05
"""Share of the requests that goodput allows outside the targets, so that a policy may as well not serve them."""

Floats = NDArray[np.float64]


def best_goodput(
    fleet: FleetSpec,
    arrivals: Sequence[Arrival],
    true: Sequence[EngineParameters],
    *,
    left_out: float | None = MAY_MISS,
    clairvoyant: bool = False,
) -> float:
    """Requests a second inside the targets, in the proportions of ``arrivals``.

    ``left_out``: share of the requests that need not be served; the programme leaves out the dearest. None: exactly
    those are left out that no worker could serve in time even if it had nothing else to do. ``clairvoyant``: output
    lengths are known, so that long answers are left out before long prompts.
    """
    sample, uncached = _sample(arrivals, max(min(SAMPLE, FLOWS // len(fleet.nodes)), 50))
    jobs, workers = len(sample), len(fleet.nodes)
    flows = jobs * workers  # the rate of job j on worker i stands at j * workers + i, the offered rate at the end
    possible = np.zeros((jobs, workers), dtype=bool)
    blocks, limits = [], []
    for i, (node, p) in enumerate(zip(fleet.nodes, true, strict=True)):
        work, out, held = _demands(sample, uncached, p, clairvoyant=clairvoyant)
        possible[:, i] = _possible(sample, uncached, node, p)
        for more_steps, least_steps in (
            (0.0, _least_steps()),
            (out / p.slots, 0.0),
            (held / p.kv_capacity_tokens, 0.0),
        ):
            seconds = work + p.base_s * np.asarray(more_steps)
            place = (np.zeros(jobs, dtype=int), np.arange(jobs) * workers + i)
            blocks.append(coo_array((seconds, place), shape=(1, flows + 1)))
            limits.append(max(1.0 - p.base_s * least_steps, 0.0))
    impossible = float(1.0 - possible.any(axis=1).mean())
    if left_out is None or impossible > left_out:
        left_out = impossible
    blocks += [_no_more_than_offered(jobs, workers), _all_but(left_out, flows)]
    limits += [0.0] * (jobs + 1)
    bounds = [(0.0, None if able else 0.0) for able in possible.ravel().tolist()]
    goal = np.append(np.full(flows, -1.0), 0.0)
    solved = linprog(goal, A_ub=vstack(blocks).tocsc(), b_ub=limits, bounds=[*bounds, (0.0, None)], method="highs")
    return float(-solved.fun) if solved.status == 0 else 0.0


def _no_more_than_offered(jobs: int, workers: int) -> Any:
    """Over all workers, no more of a job than its share of the offered rate."""
    row = np.concatenate([np.repeat(np.arange(jobs), workers), np.arange(jobs)])
    column = np.concatenate([np.arange(jobs * workers), np.full(jobs, jobs * workers)])
    value = np.concatenate([np.ones(jobs * workers), np.full(jobs, -1.0 / jobs)])
    return coo_array((value, (row, column)), shape=(jobs, jobs * workers + 1))


def _all_but(left_out: float, flows: int) -> Any:
    """Of the offered rate, all but so much is served; the slack is for rounding."""
    value = np.append(np.full(flows, -1.0), 1.0 - left_out - 1e-9)
    return coo_array((value, (np.zeros(flows + 1, dtype=int), np.arange(flows + 1))), shape=(1, flows + 1))


def alone(fleet: FleetSpec, arrivals: Sequence[Arrival], true: Sequence[EngineParameters]) -> dict[str, float]:
    """Each worker's own capacity on this traffic, requests a second: the weights an oracle would write down.

    Requests that a worker cannot serve inside the targets are left out of its mix; a worker that can serve none
    keeps a token weight.
    """
    sample, uncached = _sample(arrivals, SAMPLE)
    weights: dict[str, float] = {}
    for node, p in zip(fleet.nodes, true, strict=True):
        mine = np.array([one.model == node.model for one in sample])
        able = _possible(sample, uncached, node, p) & mine
        if not able.any():
            weights[node.worker_id] = 1e-6
            continue
        work, out, held = _demands(sample, uncached, p, clairvoyant=True)
        a, b, c = (float(x[able].mean()) for x in (work, out, held))
        rate = min(
            max(1.0 - p.base_s * _least_steps(), 0.0) / a,
            1.0 / (a + p.base_s * b / p.slots),
            1.0 / (a + p.base_s * c / p.kv_capacity_tokens),
        )
        weights[node.worker_id] = max(rate, 1e-6)
    return weights


def _least_steps() -> float:
    assert SLO.tpot_s is not None
    return 1.0 / SLO.tpot_s


def _sample(arrivals: Sequence[Arrival], size: int) -> tuple[list[Arrival], Floats]:
    """Evenly spread requests, and the prompt tokens of each that nobody sent before."""
    seen: set[int] = set()
    uncached = []
    for one in arrivals:
        fresh = len(one.block_hashes)
        for depth, block in enumerate(one.block_hashes):
            if block not in seen:
                fresh = depth
                break
        uncached.append(max(one.prompt_tokens - fresh * BLOCK_TOKENS, 1))
        seen.update(one.block_hashes)
    places = np.unique(np.linspace(0, len(arrivals) - 1, min(size, len(arrivals))).astype(int))
    return [arrivals[k] for k in places], np.array([uncached[k] for k in places], dtype=float)


def _demands(
    sample: Sequence[Arrival], uncached: Floats, p: EngineParameters, *, clairvoyant: bool
) -> tuple[Floats, Floats, Floats]:
    """Per request: seconds of work beside the steps' fixed part, output tokens, context tokens times output tokens."""
    prompt = np.array([one.prompt_tokens for one in sample], dtype=float)
    out = np.array([one.output_tokens for one in sample], dtype=float)
    square = out * out
    if not clairvoyant:
        out, square = np.full_like(out, out.mean()), np.full_like(out, square.mean())
    held = prompt * out + square / 2.0
    prefill = uncached * p.prefill_token_s * (1.0 + p.prefill_attention * (prompt - uncached / 2.0))
    return prefill + out * p.per_sequence_s + p.per_context_token_s * held, out, held


def _possible(sample: Sequence[Arrival], uncached: Floats, node: NodeSpec, p: EngineParameters) -> NDArray[np.bool_]:
    """Who this worker could serve inside the targets if it had nothing else to do."""
    quality = TabulatedQuality()
    assert SLO.ttft_s is not None
    assert SLO.tpot_s is not None
    found = np.zeros(len(sample), dtype=bool)
    for j, one in enumerate(sample):
        if one.model != node.model or (one.floor and not quality.at_least(node.instance.quantization, one.floor)):
            continue
        first = uncached[j] * p.prefill_token_s * (1.0 + p.prefill_attention * (one.prompt_tokens - uncached[j] / 2.0))
        step = p.decode_s(1, one.prompt_tokens + one.output_tokens / 2.0)
        allowed = SLO.ttft_s + SLO.ttft_per_prompt_token_s * one.prompt_tokens
        found[j] = first + node.rtt_s <= allowed and step <= SLO.tpot_s
    return found
