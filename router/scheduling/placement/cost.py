"""The cost of a choice, in seconds: DESIGN.md's formula with every term kept apart.

Pure functions over columns. The cost policy minimises the sum; every policy's prediction is read from the same
terms, so that records of different policies can be compared.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import CLAIMS, LOAD, SLACK_COUNTS, SLACK_LEADS, SPEED, Column


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWeights:
    """What is worth how many seconds.

    ``lambda_slo``: seconds one accepts to avoid one second of predicted SLO miss. ``lambda_quality``: seconds one
    accepts to avoid 1% perplexity. ``harm``: weight of the delay caused to requests already running.
    ``slo_violation_s``: seconds of SLO miss that a request stands for which would miss its TPOT target because of this
    one. ``replicas``: router replicas that dispatch to the same workers without telling each other; a claim of ours
    stands for unseen ones of theirs, see ``unseen``.
    """

    lambda_slo: float = 10.0
    lambda_quality: float = 0.0
    harm: float = 1.0
    slo_violation_s: float = 1.0
    replicas: int = 1

    @property
    def unseen(self) -> float:
        """Requests that one of ours stands for. A few claims of ours are a noisy sign of what the others send where.
        Measured with four replicas, loads 1 s old and 7 requests/s: 0.90 of them kept their targets when each claim
        counted four times, 0.90 when once, and 0.93 when twice.
        """
        return math.sqrt(self.replicas)


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


# Arrays are changed in place, and branches skip what most decisions do not need, because this is a third of what a
# decision computes: written as plain expressions it takes 24 us instead of 16 at 1,000 candidates, 15 instead of 11 at
# 50 (of 125 and 75 us a decision, AMD EPYC). ``data`` itself is the decision record's and is never changed.


def forecast(candidates: Candidates, facts: RequestFacts, unseen: float = 1.0) -> Forecast:
    """Load, claims and speed put together: when the first token comes and how fast the others follow."""
    data = candidates.data
    base, per_sequence, per_context, token_s, prefill_base = data[SPEED.at]
    slots = data[Column.SLOTS]
    # As reported, and as claimed since: four rows each, in the same order.
    load = data[LOAD.at] + data[CLAIMS.at] if unseen <= 1.0 else data[LOAD.at] + unseen * data[CLAIMS.at]
    in_engine, context, remaining, pending = load
    batch_before = np.minimum(in_engine, slots)
    step = per_sequence * batch_before
    step += base
    step += per_context * context
    # Halfway through its own output the request holds its prompt and half of what it will write.
    tpot_after = per_context * (facts.prompt_tokens + 0.5 * facts.output_tokens)
    tpot_after += step
    # Prefill went on since the load was seen, so what was pending then has its age less to go.
    wait = pending * token_s
    wait += data[Column.OBSERVED_AT] - facts.now
    np.maximum(wait, 0.0, out=wait)
    grows = in_engine < slots  # a request that queues makes no step slower yet
    if np.count_nonzero(grows) == len(grows):  # slots are free everywhere: the common case needs none of the rest
        tpot_after += per_sequence
    else:
        tpot_after += per_sequence * grows
        # Completions come at slots / (mean remaining * tpot); with n queued before it a request waits for n + 1.
        # Where nothing is in the engine, nothing remains either: _TINY keeps 0 / 0 a wait of 0.
        ahead = (in_engine - batch_before + 1.0) * remaining / (in_engine * slots + _TINY)
        wait += np.where(grows, 0.0, ahead * step)
    # While others' prompts are prefilled, tokens wait: decoding gets what share of the time is left.
    left = 1.0 - data[Column.PREFILL_SHARE]
    tpot_before = step / left
    tpot_after /= left
    # At least one token is always prefilled: the last one, whose logits give the first of the output.
    prefill = facts.prompt_tokens - data[Column.CACHED_TOKENS]
    np.maximum(prefill, 1.0, out=prefill)
    beside = None if candidates.curves is None else candidates.curves.beside_the_line_s(prefill)
    prefill *= token_s
    prefill += prefill_base
    if beside is not None:
        prefill += beside
    ttft = data[Column.RTT_S] + wait
    ttft += prefill
    return Forecast(batch_before, wait, prefill, ttft, tpot_before, tpot_after, remaining, step)


def score(candidates: Candidates, facts: RequestFacts, weights: CostWeights) -> Scores:
    """All terms and their sum. Terms add up to the cost; ``ttft`` and ``tpot`` stand beside them as forecasts."""
    seen = forecast(candidates, facts, weights.unseen)
    decode = facts.output_tokens * seen.tpot_after
    # To those running: each later token comes slower, and while this prompt is prefilled none comes at all.
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
        "price": candidates.data[Column.PRICE_S],
    }
    cost = seen.ttft + decode
    cost += harm
    cost += candidates.data[Column.PRICE_S]
    if facts.ttft_target_s != _NO_TARGET or facts.tpot_target_s != _NO_TARGET:
        violations = _expected_slo_violations(candidates.data, seen, facts)
        if weights.replicas > 1:  # the other replicas' requests run there too, unseen
            violations *= weights.unseen
        terms["expected_slo_violations"] = violations
        slo = _misses(seen, facts)
        slo += violations if weights.slo_violation_s == 1.0 else weights.slo_violation_s * violations
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


TERMS = ("rtt", "wait", "prefill", "decode", "harm", "price", "slo", "quality")
"""The terms that add up to the cost, in the order people read them."""


def _expected_slo_violations(data: Floats, seen: Forecast, facts: RequestFacts) -> Floats:
    """How many of those running are expected to miss their TPOT target because of this prompt's prefill.

    While it runs they stand still, after what is pending already. Each can take what it is ahead of its target, and
    gains the target less a step with every token it still produces. How many those are nobody knows: they are taken to
    be exponential, with the mean that is expected of this request. Counted are those that this router replica sent
    there.
    """
    if facts.tpot_target_s == _NO_TARGET:
        return np.zeros_like(seen.prefill)
    target = facts.tpot_target_s
    # Where a step takes as long as the target allows, nothing is gained: a twentieth keeps the division finite.
    gain = target - seen.step
    np.maximum(gain, 0.05 * target, out=gain)
    gain *= facts.output_tokens
    # A lead that turns negative by x must be gained back by the end: with the mean gain g that fails in 1 - exp(x / g)
    # of the cases. Without and with this prompt, for those of low and of high slack; the difference is its doing.
    lead = np.empty((2, len(SLACK_LEADS.columns), len(gain)))
    without, with_it = lead
    np.subtract(data[SLACK_LEADS.at], seen.wait, out=without)
    np.subtract(without, seen.prefill, out=with_it)
    np.minimum(lead, 0.0, out=lead)
    lead /= gain
    np.exp(lead, out=lead)
    without -= with_it
    without *= data[SLACK_COUNTS.at]
    violations: Floats = without[0] + without[1]
    return violations


def _misses(seen: Forecast, facts: RequestFacts) -> Floats:
    """Seconds beyond the targets: of this request, and what it adds for those running, taken to want the same."""
    missed: Floats = seen.ttft + (facts.waited_s - facts.ttft_target_s)
    np.maximum(missed, 0.0, out=missed)
    if seen.tpot_after[seen.tpot_after.argmax()] > facts.tpot_target_s:  # else nobody is too slow, as a rule
        slow_after = np.maximum(seen.tpot_after - facts.tpot_target_s, 0.0)
        slow_before = np.maximum(seen.tpot_before - facts.tpot_target_s, 0.0)
        missed += slow_after * facts.output_tokens + (slow_after - slow_before) * seen.remaining
    return missed
