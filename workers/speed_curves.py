"""Measured curves beside the straight lines of the cost: steps by batch, prefill by length. Pure.

A router prices with lines, which four figures carry. An engine that is to be imitated closely needs its bends: a
matrix times one vector is another program than times sixteen, and a short prompt costs more a token than a long one.
"""

import math
from collections.abc import Sequence

import numpy as np

from workers.facts import Speed, StepSample

BOUND_BY_WEIGHTS = 1.3
"""Lone prefills up to so many times a step's base are taken to be the base."""

BUCKETS_PER_DOUBLING = 2
"""Prefills are averaged over lengths within a factor of 1.4."""


def decode_curve_s(speed: Speed, slots: int) -> tuple[float, ...]:
    """Mean seconds of a step of 1, 2, … ``slots`` sequences, context apart; between batches that were seen, a line.

    More sequences are never quicker: where few steps say so, neighbours are averaged.
    Empty when fewer than two batches were seen.
    """
    seen: dict[int, list[float]] = {}
    for one in speed.samples:
        if one.prefill_tokens == 0 and one.batch > 0 and one.step_s > 0:
            seen.setdefault(one.batch, []).append(one.step_s - speed.per_context_token_s * one.context_tokens)
    if len(seen) < 2:
        return ()
    batches = sorted(seen)
    means = rising([float(np.mean(seen[batch])) for batch in batches], [len(seen[batch]) for batch in batches])
    inner = np.interp(np.arange(1, slots + 1), batches, means)
    beyond = np.maximum(np.arange(1, slots + 1) - batches[-1], 0) * speed.per_sequence_s
    return tuple(float(one) for one in np.maximum(inner + beyond, 0.0))


def rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest series that never falls (weighted least squares), by pooling neighbours that do.

    Pool-adjacent-violators: Ayer et al., An empirical distribution function for sampling with incomplete
    information, 1955.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, low_weight, low_count), (high, high_weight, high_count) = pools.pop(), pools.pop()
            both = low_weight + high_weight
            pools.append(((low * low_weight + high * high_weight) / both, both, low_count + high_count))
    return [mean for mean, _, count in pools for _ in range(count)]


def prefill_curve(speed: Speed, slots: int) -> tuple[tuple[float, float], ...]:
    """(tokens, seconds beside the decoding in the same step) of one sequence's prefill, by length, never falling.

    Several sequences that prefilled in one step count as that many of their mean length. Empty: none was seen.
    """
    curve = decode_curve_s(speed, slots)
    seen: dict[int, list[tuple[float, float]]] = {}
    for one in speed.samples:
        if not tells_prefill(speed, one):
            continue
        prefills = max(one.prefills, 1)
        tokens = one.prefill_tokens / prefills
        decode_s = decoding_s(speed, curve, one.batch, one.context_tokens)
        bucket = round(BUCKETS_PER_DOUBLING * math.log2(tokens))
        seen.setdefault(bucket, []).append((tokens, max(one.step_s - decode_s, 0.0) / prefills))
    means = [(np.mean(seen[bucket], axis=0), len(seen[bucket])) for bucket in sorted(seen)]
    seconds = rising([float(mean[1]) for mean, _ in means], [count for _, count in means])
    return tuple((float(mean[0]), one) for (mean, _), one in zip(means, seconds, strict=True))


def tells_prefill(speed: Speed, one: StepSample) -> bool:
    """Whether a step shows what prefill costs.

    A few prompt tokens alone take as long as reading the weights once, whatever they compute: that time is the base
    of every step, and in a step that decodes as well it is not paid again.
    """
    if one.prefill_tokens <= 0 or one.step_s <= 0:
        return False
    return one.batch > 0 or one.step_s > BOUND_BY_WEIGHTS * speed.base_s


def decoding_s(speed: Speed, curve: Sequence[float], batch: int, context_tokens: int) -> float:
    """Seconds of decoding ``batch`` sequences: by the curve where it reaches, else by the line."""
    if not 0 < batch <= len(curve):
        return speed.step_s(batch, context_tokens) if batch else 0.0
    return curve[batch - 1] + speed.per_context_token_s * context_tokens


def prefilling_s(speed: Speed, curve: Sequence[tuple[float, float]], tokens: float) -> float:
    """Seconds of one sequence's prefill: by the curve where it reaches, beyond it at the fitted rate."""
    if not curve:
        return speed.prefill_base_s + (tokens / speed.prefill_tokens_per_s if speed.prefill_tokens_per_s else 0.0)
    lengths, seconds = zip(*curve, strict=True)
    beyond_s = max(tokens - lengths[-1], 0.0) / speed.prefill_tokens_per_s if speed.prefill_tokens_per_s else 0.0
    return float(np.interp(tokens, lengths, seconds)) + beyond_s


def expected_step_s(
    speed: Speed, decode: Sequence[float], prefill: Sequence[tuple[float, float]], like: StepSample
) -> float:
    """What both curves say about a step like this one."""
    seconds = decoding_s(speed, decode, like.batch, like.context_tokens)
    if like.prefill_tokens > 0:
        prefills = max(like.prefills, 1)
        seconds += prefills * prefilling_s(speed, prefill, like.prefill_tokens / prefills)
    return seconds
