"""The cost of a choice, in seconds: DESIGN.md's formula with every term kept apart.

Pure functions over columns. The cost policy minimises the sum; every policy's prediction is read from the same
terms, so that records of different policies can be compared.
"""

from dataclasses import dataclass

import numpy as np

from router.placement.candidates import Candidates, Column, Floats, RequestFacts, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWeights:
    """What is worth how many seconds.

    ``lambda_slo``: seconds one accepts to avoid one second of predicted SLO miss. ``lambda_quality``: seconds one
    accepts to avoid 1% perplexity. ``harm``: weight of the delay caused to requests already running. ``replicas``:
    router replicas that dispatch to the same workers without telling each other; each claim of ours stands for as
    many unseen ones of theirs.
    """

    lambda_slo: float = 10.0
    lambda_quality: float = 0.0
    harm: float = 1.0
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would happen on each candidate, in seconds and counts."""

    batch_before: Floats
    slot_wait: Floats
    prefill_wait: Floats
    prefill: Floats
    ttft: Floats
    tpot_before: Floats
    tpot_after: Floats
    remaining: Floats


def forecast(candidates: Candidates, facts: RequestFacts, replicas: int = 1) -> Forecast:
    """Load, claims and speed put together: when the first token comes and how fast the others follow."""
    data = candidates.data
    unseen = float(max(replicas, 1))
    slots = data[Column.SLOTS]
    standing = data[Column.RUNNING] + data[Column.WAITING] + unseen * data[Column.INFLIGHT_REQUESTS]
    batch_before = np.minimum(standing, slots)
    context = data[Column.CONTEXT_HELD] + unseen * data[Column.INFLIGHT_PROMPT]
    remaining = data[Column.EXPECTED_REMAINING] + unseen * data[Column.INFLIGHT_OUTPUT]
    factor = data[Column.TPOT_FACTOR]
    per_sequence = data[Column.PER_SEQUENCE_S]
    per_context = data[Column.PER_CONTEXT_TOKEN_S]
    tpot_before = (data[Column.BASE_S] + per_sequence * batch_before + per_context * context) * factor
    added_context = facts.prompt_tokens + 0.5 * facts.output_tokens  # halfway through its own output
    grows = standing < slots  # a queued request changes no step yet
    tpot_after = tpot_before + (per_sequence * grows + per_context * added_context) * factor
    # Completions come at slots / (mean remaining * tpot); a request with n queued before it waits for n + 1 of
    # them. With a full queue this is DESIGN's sum of expected remaining over slots.
    queued = standing - batch_before
    slot_wait = np.where(grows, 0.0, (queued + 1.0) * remaining * tpot_before / (np.maximum(standing, 1.0) * slots))
    token_s = data[Column.PREFILL_TOKEN_S]
    pending = data[Column.PREFILL_PENDING] + unseen * data[Column.INFLIGHT_PROMPT]
    # Prefill went on since the load was seen.
    pending = np.maximum(pending - np.maximum(facts.now - data[Column.OBSERVED_AT], 0.0) / token_s, 0.0)
    prefill_wait = pending * token_s
    uncached = np.maximum(facts.prompt_tokens - data[Column.CACHED_TOKENS], 1.0)
    prefill = data[Column.PREFILL_BASE_S] + uncached * token_s
    ttft = data[Column.RTT_S] + slot_wait + prefill_wait + prefill
    return Forecast(batch_before, slot_wait, prefill_wait, prefill, ttft, tpot_before, tpot_after, remaining)


def score(candidates: Candidates, facts: RequestFacts, weights: CostWeights) -> Scores:
    """All terms and their sum. Terms add up to the cost; ``ttft`` and ``tpot`` stand beside them as forecasts."""
    seen = forecast(candidates, facts, weights.replicas)
    decode = facts.output_tokens * seen.tpot_after
    slower = seen.tpot_after - seen.tpot_before
    harm = weights.harm * (seen.batch_before * seen.prefill + slower * seen.remaining)
    wait = seen.slot_wait + seen.prefill_wait
    terms = {
        "rtt": candidates.data[Column.RTT_S],
        "wait": wait,
        "prefill": seen.prefill,
        "decode": decode,
        "harm": harm,
    }
    cost = seen.ttft + decode + harm
    if facts.ttft_target_s != np.inf or facts.tpot_target_s != np.inf:
        terms["slo"] = weights.lambda_slo * _misses(seen, facts)
        cost = cost + terms["slo"]
    if weights.lambda_quality > 0:
        terms["quality"] = weights.lambda_quality * 100.0 * candidates.data[Column.QUALITY_LOSS]
        cost = cost + terms["quality"]
    terms["ttft"] = seen.ttft
    terms["tpot"] = seen.tpot_after
    return Scores(cost, terms)


TERMS = ("rtt", "wait", "prefill", "decode", "harm", "slo", "quality")
"""The terms that add up to the cost, in the order people read them."""


def _misses(seen: Forecast, facts: RequestFacts) -> Floats:
    """Seconds beyond the targets: of this request, and what it adds for those running, taken to want the same."""
    late = np.maximum(facts.waited_s + seen.ttft - facts.ttft_target_s, 0.0)
    slow_after = np.maximum(seen.tpot_after - facts.tpot_target_s, 0.0)
    slow_before = np.maximum(seen.tpot_before - facts.tpot_target_s, 0.0)
    missed: Floats = late + slow_after * facts.output_tokens + (slow_after - slow_before) * seen.remaining
    return missed
