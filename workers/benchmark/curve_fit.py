"""From settled levels and timed prompts to the curves that a router is told. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from protos.contract.curve import Curve, CurvePoint
from protos.contract.worker import ModelInstance
from workers.benchmark.measured_speed import Findings, Level, MeasuredSpeed, PromptTime
from workers.benchmark.speed_fit import relative_fit

BEND = 0.04
"""A batch between two measured ones is worth a look where the two lines that could pass there differ by so much."""

WIDE = 4
"""Between batches that far apart a step may hide from any line: such a gap is looked into in any case."""

SURE = 3.0
"""Standard errors of two medians: what differs by more tells what a context token costs."""

LEAST_SPREAD = 0.005

STEEPEST = 2.0
"""Times the mean rate of the longest prompt: what its last tokens may have been prefilled at."""


def next_batch(levels: Sequence[Level], most: int) -> int:
    """The batch whose step is least known; 0: none is in doubt.

    Between two measured batches the step lies near their line if the curve is straight there, and near the lines of
    their neighbours if it bends. Where these differ most (relative to the step), the middle is measured next.
    """
    points = [(one.batch, one.step_s) for one in sorted(levels, key=lambda one: one.batch)]
    best, doubt = 0, BEND
    for place in range(len(points) - 1):
        (left, left_s), (right, right_s) = points[place], points[place + 1]
        if right - left < 2 or right > most:
            continue
        middle = _middle(left, right)
        straight = left_s + (right_s - left_s) * (middle - left) / (right - left)
        guesses = [straight]
        if place > 0:
            guesses.append(_through(points[place - 1], points[place], middle))
        if place + 2 < len(points):
            guesses.append(_through(points[place + 2], points[place + 1], middle))
        apart = (max(guesses) - min(guesses)) / straight
        if right >= WIDE * left:
            apart = max(apart, 2 * BEND)
        if apart > doubt:
            best, doubt = middle, apart
    return best


def _middle(left: int, right: int) -> int:
    """A power of two where there is one between, for kernels change after those (8 rows, 16, 32); else halfway."""
    power = 1 << (math.isqrt(left * right).bit_length() - 1)
    return power if left < power < right else (left + right) // 2


def _through(one: tuple[int, float], other: tuple[int, float], at: int) -> float:
    return one[1] + (other[1] - one[1]) * (at - one[0]) / (other[0] - one[0])


def with_curves(line: MeasuredSpeed, found: Findings, loaded: ModelInstance) -> MeasuredSpeed:
    """The line with the curves that levels and prompts show; as it is where there are none."""
    if not found.levels:
        return line
    slope = _context_slope(found, loaded)
    curve = _decode_curve(found.levels, slope)
    base_s, per_sequence_s = relative_fit(
        [(1.0, float(one.at)) for one in curve], [one.seconds for one in curve], [0.0] * len(curve)
    )
    prefill = _prefill_curve(found.prompts)
    speed = replace(
        line,
        base_s=base_s,
        per_sequence_s=per_sequence_s,
        per_context_token_s=slope,
        decode_curve=curve,
        effective_bandwidth_bytes_per_s=loaded.weights_bytes / curve[0].seconds if curve[0].at == 1 else 0.0,
    )
    if prefill:
        token_s = _last_tokens_s(prefill)
        (fixed_s,) = relative_fit(
            [(1.0,)] * len(prefill), [one.seconds for one in prefill], [token_s * one.at for one in prefill]
        )
        speed = replace(speed, prefill_tokens_per_s=1.0 / token_s, prefill_base_s=fixed_s, prefill_curve=prefill)
    return replace(speed, fit_error=fit_error(speed, found.again))


def fit_error(speed: MeasuredSpeed, again: Sequence[Level]) -> float:
    """The median distance of levels measured again from what the speed says of them, relative."""
    errors = [abs(speed.step_s(one.batch, one.context_tokens) / one.step_s - 1.0) for one in again]
    return median(errors) if errors else 0.0


def _decode_curve(levels: Sequence[Level], slope: float) -> Curve:
    """One point a batch; of one that was measured twice the lower, for whatever else a machine does makes it slower."""
    lowest: dict[int, float] = {}
    for one in levels:
        seconds = one.step_s - slope * one.context_tokens
        lowest[one.batch] = min(lowest.get(one.batch, seconds), seconds)
    return tuple(CurvePoint(at=batch, seconds=lowest[batch]) for batch in sorted(lowest))


def _context_slope(found: Findings, loaded: ModelInstance) -> float:
    """Seconds a context token costs each step: between short and long contexts of the same batch. Where that is too
    little to tell, what reading its keys and values takes at the rate that the weights are read, as far as the steps
    allow that.
    """
    quickest_s = min(one.step_s for one in found.levels)
    by_bytes = quickest_s * loaded.kv_bytes_per_token / loaded.weights_bytes if loaded.weights_bytes else 0.0
    most = min(0.5 * one.step_s / max(one.context_tokens, 1) for one in found.levels)
    slopes = []
    for one in found.long:
        short = [level for level in found.levels if level.batch == one.batch]
        if short and one.context_tokens > short[0].context_tokens:
            more = one.step_s - min(level.step_s for level in short)
            doubt = SURE * one.step_s * max(one.spread, LEAST_SPREAD) / math.sqrt(max(one.steps, 1))
            tokens = one.context_tokens - short[0].context_tokens
            slopes.append(more / tokens if more > doubt else min(by_bytes, max(more + doubt, 0.0) / tokens))
    return min(*slopes, most) if slopes else min(by_bytes, most)


def _prefill_curve(prompts: Sequence[PromptTime]) -> Curve:
    """One point a length, never falling: a longer prompt that took less shows what the shorter one can."""
    points: list[CurvePoint] = []
    for one in sorted(prompts, key=lambda one: one.tokens, reverse=True):
        if points and one.tokens >= points[-1].at:
            continue
        points.append(
            CurvePoint(at=one.tokens, seconds=min(one.seconds, points[-1].seconds if points else one.seconds))
        )
    return tuple(reversed(points))


def _last_tokens_s(curve: Curve) -> float:
    """Seconds a token beyond the longest prompt that was timed takes."""
    last = curve[-1]
    mean_s = last.seconds / last.at
    if len(curve) < 2:
        return mean_s
    before = curve[-2]
    return min(max((last.seconds - before.seconds) / (last.at - before.at), mean_s / STEEPEST), mean_s)
