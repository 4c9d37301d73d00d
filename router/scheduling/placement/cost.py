"""The cost of a choice, in seconds: DESIGN.md's formula with every term kept apart.

Pure functions over columns. The cost policy minimises the sum; every policy's prediction is read from the same
terms, so that records of different policies can be compared.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from router.scheduling.placement.candidates import Candidates, Column, Floats, RequestFacts, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWeights:
    """What is worth how many seconds.

    ``lambda_slo``: seconds one accepts to avoid one second of predicted SLO miss. ``lambda_quality``: seconds one
    accepts to avoid 1% perplexity. ``harm``: weight of the delay caused to requests already running. ``broken_s``:
    seconds of SLO miss that a request stands for which would miss its TPOT target because of this one. ``replicas``:
    router replicas that dispatch to the same workers without telling each other; a claim of ours stands for unseen ones
    of theirs, see ``unseen``.
    """

    lambda_slo: float = 10.0
    lambda_quality: float = 0.0
    harm: float = 1.0
    broken_s: float = 1.0
    replicas: int = 1

    @property
    def unseen(self) -> float:
        """Requests that one of ours stands for. A few claims of ours are a noisy sign of what the others send where:
        of four replicas with loads 1 s old, 0.90 of the requests at 7/s kept their targets when each claim counted
        four times, 0.90 when once, and 0.93 when twice.
        """
        return math.sqrt(self.replicas)


_LOAD = slice(Column.STANDING, Column.PREFILL_PENDING + 1)
_CLAIMS = slice(Column.INFLIGHT_REQUESTS, Column.INFLIGHT_PREFILL + 1)
_TINY = 1e-9
_NO_TARGET = float("inf")


class Forecast(NamedTuple):
    """What would happen on each candidate, in seconds and counts."""

    batch_before: Floats
    wait: Floats
    prefill: Floats
    ttft: Floats
    tpot_before: Floats
    tpot_after: Floats
    remaining: Floats
    step: Floats


def forecast(candidates: Candidates, facts: RequestFacts, unseen: float = 1.0) -> Forecast:
    """Load, claims and speed put together: when the first token comes and how fast the others follow."""
    data = candidates.data
    base, per_sequence, per_context, token_s, prefill_base, slots = data[Column.BASE_S : Column.SLOTS + 1]
    # Requests standing, context held, output remaining, prefill pending: as reported, and as claimed since.
    load = data[_LOAD] + data[_CLAIMS] if unseen <= 1.0 else data[_LOAD] + unseen * data[_CLAIMS]
    standing, context, remaining, pending = load
    batch_before = np.minimum(standing, slots)
    step = per_sequence * batch_before
    step += base
    step += per_context * context
    # Halfway through its own output the request holds its prompt and half of what it will write.
    tpot_after = per_context * (facts.prompt_tokens + 0.5 * facts.output_tokens)
    tpot_after += step
    # Prefill went on since the load was seen.
    wait = pending * token_s
    wait += data[Column.OBSERVED_AT] - facts.now
    np.maximum(wait, 0.0, out=wait)
    grows = standing < slots  # a request that queues makes no step slower yet
    if np.count_nonzero(grows) == len(grows):
        tpot_after += per_sequence
    else:
        tpot_after += per_sequence * grows
        # Completions come at slots / (mean remaining * tpot); with n queued before it a request waits for n + 1.
        ahead = (standing - batch_before + 1.0) * remaining / (standing * slots + _TINY)
        wait += np.where(grows, 0.0, ahead * step)
    # While others' prompts are prefilled, tokens wait: decoding gets what share of the time is left.
    left = 1.0 - data[Column.PREFILL_SHARE]
    tpot_before = step / left
    tpot_after /= left
    prefill = facts.prompt_tokens - data[Column.CACHED_TOKENS]
    np.maximum(prefill, 1.0, out=prefill)
    prefill *= token_s
    prefill += prefill_base
    ttft = data[Column.RTT_S] + wait
    ttft += prefill
    return Forecast(batch_before, wait, prefill, ttft, tpot_before, tpot_after, remaining, step)


def score(candidates: Candidates, facts: RequestFacts, weights: CostWeights) -> Scores:
    """All terms and their sum. Terms add up to the cost; ``ttft`` and ``tpot`` stand beside them as forecasts."""
    seen = forecast(candidates, facts, weights.unseen)
    decode = facts.output_tokens * seen.tpot_after
    harm = seen.tpot_after - seen.tpot_before
    harm *= seen.remaining
    harm += seen.batch_before * seen.prefill
    if weights.harm != 1.0:
        harm *= weights.harm
    terms = {
        "rtt": candidates.data[Column.RTT_S],
        "wait": seen.wait,
        "prefill": seen.prefill,
        "decode": decode,
        "harm": harm,
    }
    cost = seen.ttft + decode
    cost += harm
    if facts.ttft_target_s != _NO_TARGET or facts.tpot_target_s != _NO_TARGET:
        broken = _broken(candidates.data, seen, facts)
        if weights.replicas > 1:
            broken *= weights.unseen
        terms["broken"] = broken
        slo = _misses(seen, facts)
        slo += broken if weights.broken_s == 1.0 else weights.broken_s * broken
        slo *= weights.lambda_slo
        terms["slo"] = slo
        cost += slo
    if weights.lambda_quality > 0:
        quality = weights.lambda_quality * 100.0 * candidates.data[Column.QUALITY_LOSS]
        terms["quality"] = quality
        cost += quality
    terms["ttft"] = seen.ttft
    terms["tpot"] = seen.tpot_after
    return Scores(cost, terms)


TERMS = ("rtt", "wait", "prefill", "decode", "harm", "slo", "quality")
"""The terms that add up to the cost, in the order people read them."""


def _broken(data: Floats, seen: Forecast, facts: RequestFacts) -> Floats:
    """How many of those running are expected to miss their TPOT target because of this prompt's prefill.

    While it runs they stand still, after what is pending already. Each can take what it is ahead of its target, and
    gains the target less a step with every token it still produces; how many those are nobody knows, so they are taken
    to be exponential, with the mean that is expected of this request. Counted are those that this router replica sent
    there.
    """
    if facts.tpot_target_s == _NO_TARGET:
        return np.zeros_like(seen.prefill)
    target = facts.tpot_target_s
    gain = target - seen.step
    np.maximum(gain, 0.05 * target, out=gain)
    gain *= facts.output_tokens
    short = np.empty((2, 2, len(gain)))  # without and with this prompt; tight and easy
    without, with_it = short
    np.subtract(data[Column.TIGHT_AHEAD_S : Column.EASY_AHEAD_S + 1 : 2], seen.wait, out=without)
    np.subtract(without, seen.prefill, out=with_it)
    np.minimum(short, 0.0, out=short)
    short /= gain
    np.exp(short, out=short)
    without -= with_it
    without *= data[Column.TIGHT : Column.EASY_AHEAD_S : 2]
    broken: Floats = without[0] + without[1]
    return broken


def _misses(seen: Forecast, facts: RequestFacts) -> Floats:
    """Seconds beyond the targets: of this request, and what it adds for those running, taken to want the same."""
    missed: Floats = seen.ttft + (facts.waited_s - facts.ttft_target_s)
    np.maximum(missed, 0.0, out=missed)
    if seen.tpot_after[seen.tpot_after.argmax()] > facts.tpot_target_s:
        slow_after = np.maximum(seen.tpot_after - facts.tpot_target_s, 0.0)
        slow_before = np.maximum(seen.tpot_before - facts.tpot_target_s, 0.0)
        missed += slow_after * facts.output_tokens + (slow_after - slow_before) * seen.remaining
    return missed
