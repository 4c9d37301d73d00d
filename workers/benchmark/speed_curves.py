"""Measured curves beside the straight lines of the cost: steps by batch, prefill by length. Pure.

A router prices with lines, which four figures carry. An engine that is to be imitated closely needs its bends: a
matrix times one vector is another program than times sixteen, and a short prompt costs more a token than a long one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from workers.benchmark.least_squares import dot, interpolate, spread
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample

BOUND_BY_WEIGHTS = 1.3
"""Lone prefills up to so many times a step's base are taken to be the base."""

BUCKETS_PER_DOUBLING = 2
"""Prefills are averaged over lengths within a factor of 1.4."""

LONG_CONTEXT_TOKENS = 256
"""A sequence: beyond what the benchmark's traffic has."""

MIN_STEPS = 4
CONTRAST = 3.0
"""What lies before tells something when so many steps differ in it by so many times their own tokens."""


def decode_curve_s(speed: MeasuredSpeed, slots: int) -> tuple[float, ...]:
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
    means = rising([fmean(seen[batch]) for batch in batches], [len(seen[batch]) for batch in batches])
    return tuple(
        max(interpolate(batch, batches, means) + max(batch - batches[-1], 0) * speed.per_sequence_s, 0.0)
        for batch in range(1, slots + 1)
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillCurve:
    """What one sequence's prefill costs beside the decoding in the same step.

    ``points``: (tokens, seconds) with nothing before them, never falling; empty: none was seen. ``attention``: a token
    costs this share more for each token before it, on average over those of the step.
    """

    points: tuple[tuple[float, float], ...] = ()
    attention: float = 0.0

    def seconds(self, speed: MeasuredSpeed, tokens: float, before: float) -> float:
        """By the curve where it reaches, beyond it at the fitted rate."""
        stretch = 1.0 + self.attention * (before + tokens / 2.0)
        if not self.points:
            alone_s = speed.prefill_base_s + (
                tokens / speed.prefill_tokens_per_s if speed.prefill_tokens_per_s else 0.0
            )
            return alone_s * stretch
        lengths, seconds = zip(*self.points, strict=True)
        beyond_s = max(tokens - lengths[-1], 0.0) / speed.prefill_tokens_per_s if speed.prefill_tokens_per_s else 0.0
        return (interpolate(tokens, lengths, seconds) + beyond_s) * stretch


def prefill_curve(speed: MeasuredSpeed, slots: int) -> PrefillCurve:
    """The curve the samples show. Several sequences that prefilled in one step count as that many of their mean length.

    How much lay before a sequence's tokens is known where nobody decoded. Else it is taken to be nothing, and where
    those who decode hold long contexts, as its own may be, the step is left out.
    """
    decode = decode_curve_s(speed, slots)
    attention = prefill_attention(speed)
    seen: dict[int, list[tuple[float, float]]] = {}
    for one in speed.samples:
        if not tells_prefill(speed, one) or one.context_tokens > LONG_CONTEXT_TOKENS * one.batch > 0:
            continue
        prefills = max(one.prefills, 1)
        tokens = one.prefill_tokens / prefills
        spent_s = one.step_s - decoding_s(speed, decode, one.batch, one.context_tokens)
        stretch = 1.0 + attention * (tokens_before(one) + tokens / 2.0)
        bucket = round(BUCKETS_PER_DOUBLING * math.log2(tokens))
        seen.setdefault(bucket, []).append((tokens, max(spent_s, 0.0) / prefills / stretch))
    buckets = [seen[bucket] for bucket in sorted(seen)]
    lengths = [fmean([tokens for tokens, _ in bucket]) for bucket in buckets]
    spent = [fmean([spent_s for _, spent_s in bucket]) for bucket in buckets]
    points = tuple(zip(lengths, rising(spent, [len(bucket) for bucket in buckets]), strict=True))
    return PrefillCurve(points=points, attention=attention)


def prefill_attention(speed: MeasuredSpeed) -> float:
    """The share by which a prefilled token costs more for each token before it; zero where that cannot be told.

    From long prompts that nobody decoded beside, taken in several steps of as many tokens each: the line through their
    times.
    """
    alike: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one in speed.samples:
        if one.batch == 0 and tells_prefill(speed, one):
            at = tokens_before(one) + one.prefill_tokens / max(one.prefills, 1) / 2.0
            alike.setdefault((one.prefill_tokens, one.prefills), []).append((at, one.step_s))
    slope, level = 0.0, 0.0
    for (tokens, _), steps in alike.items():
        places, times = [where for where, _ in steps], [step_s for _, step_s in steps]
        if len(steps) < MIN_STEPS or spread(places) < CONTRAST * tokens:
            continue
        middle, mean_s = fmean(places), fmean(times)
        apart = [one - middle for one in places]
        squares = dot(apart, apart)
        steepness = dot(apart, times) / squares
        weight = squares / mean_s**2
        slope += weight * steepness
        level += weight * (mean_s - middle * steepness)
    return max(slope / level, 0.0) if level > 0 else 0.0


def tokens_before(one: StepSample) -> float:
    """Tokens a prefilling sequence had before those of this step, on average; beside decoding ones, whose contexts are
    not told apart from its own, zero.
    """
    return max(one.context_tokens - one.prefill_tokens, 0) / max(one.prefills, 1) if one.batch == 0 else 0.0


def tells_prefill(speed: MeasuredSpeed, one: StepSample) -> bool:
    """Whether a step shows what prefill costs.

    A few prompt tokens alone take as long as reading the weights once, whatever they compute: that time is the base
    of every step, and in a step that decodes as well it is not paid again.
    """
    if one.prefill_tokens <= 0 or one.step_s <= 0:
        return False
    return one.batch > 0 or one.step_s > BOUND_BY_WEIGHTS * speed.base_s


def decoding_s(speed: MeasuredSpeed, curve: Sequence[float], batch: int, context_tokens: int) -> float:
    """Seconds of decoding ``batch`` sequences: by the curve where it reaches, else by the line."""
    if not 0 < batch <= len(curve):
        return speed.step_s(batch, context_tokens) if batch else 0.0
    return curve[batch - 1] + speed.per_context_token_s * context_tokens


def expected_step_s(speed: MeasuredSpeed, decode: Sequence[float], prefill: PrefillCurve, like: StepSample) -> float:
    """What both curves say about a step like this one."""
    seconds = decoding_s(speed, decode, like.batch, like.context_tokens)
    if like.prefill_tokens > 0:
        prefills = max(like.prefills, 1)
        seconds += prefills * prefill.seconds(speed, like.prefill_tokens / prefills, tokens_before(like))
    return seconds
