"""From timed engine steps to the parameters of DESIGN.md's cost. Pure: samples in, ``MeasuredSpeed`` out."""

from collections.abc import Sequence
from statistics import fmean, median

from workers.benchmark.least_squares import dot, non_negative_least_squares, spread
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.speed_curves import decode_curve_s, decoding_s, tells_prefill

CONTEXT_CONTRAST = 2.0
"""Contexts of one batch tell something when the longest is three times the shortest."""

ROUNDS = 4
"""Reweighting settles to three digits within three."""


def fit_speed(
    samples: Sequence[StepSample], *, weights_bytes: int = 0, measured_at_unix_s: float = 0.0
) -> MeasuredSpeed | None:
    """The cost parameters that explain the samples best; None when no decode step was seen.

    Decode first: ``step_s = base_s + per_sequence_s * b + per_context_token_s * C`` over steps without prefill.
    Then prefill: what a step took beyond its decode part, ``prefill_base_s`` for each sequence that prefilled and
    ``tokens / prefill_tokens_per_s``. Errors are relative, so that short steps count as much as long ones.
    """
    decode = [one for one in samples if one.prefill_tokens == 0 and one.batch > 0 and one.step_s > 0]
    if not decode:
        return None
    base_s, per_sequence_s, per_context_token_s = _fit_decode(decode)
    decode_only = MeasuredSpeed(
        base_s=base_s,
        per_sequence_s=per_sequence_s,
        per_context_token_s=per_context_token_s,
        prefill_tokens_per_s=0.0,
        samples=tuple(samples),
    )
    prefill_base_s, prefill_token_s = _fit_prefill(samples, decode_only)
    alone_s = decode_only.step_s(1, min(one.context_tokens for one in decode))
    return MeasuredSpeed(
        base_s=base_s,
        per_sequence_s=per_sequence_s,
        per_context_token_s=per_context_token_s,
        prefill_tokens_per_s=1.0 / prefill_token_s if prefill_token_s > 0 else 0.0,
        prefill_base_s=prefill_base_s,
        measured=True,
        effective_bandwidth_bytes_per_s=weights_bytes / alone_s if alone_s > 0 else 0.0,
        samples=tuple(samples),
        measured_at_unix_s=measured_at_unix_s,
    )


def _fit_decode(decode: Sequence[StepSample]) -> tuple[float, float, float]:
    times = [one.step_s for one in decode]
    slope = _context_slope(decode)
    if slope is None:
        rows = [(1.0, one.batch, one.context_tokens) for one in decode]
        base_s, per_sequence_s, slope = relative_fit(rows, times, [0.0] * len(decode))
    else:
        base_s, per_sequence_s = relative_fit(
            [(1.0, one.batch) for one in decode], times, [slope * one.context_tokens for one in decode]
        )
    return base_s, per_sequence_s, slope


def _context_slope(decode: Sequence[StepSample]) -> float | None:
    """Seconds a context token costs, from steps of one batch at unlike contexts; None when none differ enough.

    Compared within batches, because steps do not grow evenly with the batch: a line through all would put that bend
    on the context, which grows along.
    """
    above, below = 0.0, 0.0
    for batch in {one.batch for one in decode}:
        here = [one for one in decode if one.batch == batch]
        held, took = [float(one.context_tokens) for one in here], [one.step_s for one in here]
        if spread(held) < CONTEXT_CONTRAST * max(min(held), 1.0):
            continue
        held_mean, took_mean = fmean(held), fmean(took)
        apart = [one - held_mean for one in held]
        weight = 1.0 / took_mean**2
        above += weight * dot(apart, [one - took_mean for one in took])
        below += weight * dot(apart, apart)
    return max(above / below, 0.0) if below > 0 else None


def _fit_prefill(samples: Sequence[StepSample], decode: MeasuredSpeed) -> tuple[float, float]:
    """Fixed seconds a prefilling sequence and seconds a token of prefill; zeros when no prefill was seen."""
    prefill = [one for one in samples if tells_prefill(decode, one)]
    if not prefill:
        return 0.0, 0.0
    times = [one.step_s for one in prefill]
    curve = decode_curve_s(decode, max(one.batch for one in prefill))
    decode_s = [decoding_s(decode, curve, one.batch, one.context_tokens) for one in prefill]
    rows = [(max(one.prefills, 1), one.prefill_tokens) for one in prefill]
    fixed_s, token_s = relative_fit(rows, times, decode_s)
    return fixed_s, token_s


def relative_fit(
    rows: Sequence[Sequence[float]], times: Sequence[float], known_s: Sequence[float]
) -> tuple[float, ...]:
    """The x >= 0 for which ``known_s + rows @ x`` is nearest to ``times``, short and long steps counting alike.

    Rows are divided by the time the last round predicted. Dividing by the measured time would favour steps that
    happened to be quick, and put every prediction below the mean.
    """
    scale, solution = times, (0.0,) * len(rows[0])
    for _ in range(ROUNDS):
        relative = [[one / by for one in row] for row, by in zip(rows, scale, strict=True)]
        left = [max(took - known, 0.0) / by for took, known, by in zip(times, known_s, scale, strict=True)]
        solution = non_negative_least_squares(relative, left)
        scale = [max(known + dot(row, solution), 1e-9) for row, known in zip(rows, known_s, strict=True)]
    return solution


def predicted_step_s(speed: MeasuredSpeed, sample: StepSample) -> float:
    """What the fit says about a step like this one."""
    decode_s = speed.step_s(sample.batch, sample.context_tokens) if sample.batch else 0.0
    if not sample.prefill_tokens or not speed.prefill_tokens_per_s:
        return decode_s
    fixed_s = speed.prefill_base_s * max(sample.prefills, 1)
    return decode_s + fixed_s + sample.prefill_tokens / speed.prefill_tokens_per_s


def median_relative_error(speed: MeasuredSpeed) -> float:
    """How far the fit lies from its own samples, as a fraction; what it cannot explain."""
    if not speed.samples:
        return 0.0
    errors = [abs(predicted_step_s(speed, one) - one.step_s) / one.step_s for one in speed.samples if one.step_s > 0]
    return median(errors) if errors else 0.0
