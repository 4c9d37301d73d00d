"""From timed engine steps to the parameters of DESIGN.md's cost. Pure: samples in, ``MeasuredSpeed`` out."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.speed_curves import decode_curve_s, decoding_s, tells_prefill

Floats = NDArray[np.float64]

CONTEXT_CONTRAST = 2.0
"""Contexts of one batch tell something when the longest is three times the shortest."""

ROUNDS = 4
"""Reweighting settles to three digits within three."""


def non_negative_least_squares(rows: Floats, values: Floats) -> Floats:
    """The x >= 0 that minimises |rows @ x - values|, exactly.

    With three columns at most there are eight sets of active columns: the best feasible one is the optimum,
    since at the optimum the active columns solve their own least-squares problem (Lawson and Hanson, 1974).
    """
    columns = rows.shape[1]
    best, best_error = np.zeros(columns), float(np.sum(values**2))
    for count in range(1, columns + 1):
        for active in itertools.combinations(range(columns), count):
            solution, *_ = np.linalg.lstsq(rows[:, active], values, rcond=None)
            if np.any(solution < 0):
                continue
            error = float(np.sum((rows[:, active] @ solution - values) ** 2))
            if error < best_error - 1e-18:
                best, best_error = np.zeros(columns), error
                best[list(active)] = solution
    return best


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
    times = np.array([one.step_s for one in decode])
    contexts = np.array([one.context_tokens for one in decode], dtype=np.float64)
    batches = np.array([one.batch for one in decode], dtype=np.float64)
    ones = np.ones(len(decode))
    slope = _context_slope(batches, contexts, times)
    if slope is None:
        rows = np.column_stack((ones, batches, contexts))
        base_s, per_sequence_s, slope = _relative_fit(rows, times, np.zeros(len(decode)))
    else:
        rows = np.column_stack((ones, batches))
        base_s, per_sequence_s = _relative_fit(rows, times, slope * contexts)
    return float(base_s), float(per_sequence_s), float(slope)


def _context_slope(batches: Floats, contexts: Floats, times: Floats) -> float | None:
    """Seconds a context token costs, from steps of one batch at unlike contexts; None when none differ enough.

    Compared within batches, because steps do not grow evenly with the batch: a line through all would put that bend
    on the context, which grows along.
    """
    above, below = 0.0, 0.0
    for batch in np.unique(batches):
        here = batches == batch
        held, took = contexts[here], times[here]
        if np.ptp(held) < CONTEXT_CONTRAST * max(float(held.min()), 1.0):
            continue
        apart = held - held.mean()
        weight = 1.0 / float(took.mean()) ** 2
        above += weight * float(apart @ (took - took.mean()))
        below += weight * float(apart @ apart)
    return max(above / below, 0.0) if below > 0 else None


def _fit_prefill(samples: Sequence[StepSample], decode: MeasuredSpeed) -> tuple[float, float]:
    """Fixed seconds a prefilling sequence and seconds a token of prefill; zeros when no prefill was seen."""
    prefill = [one for one in samples if tells_prefill(decode, one)]
    if not prefill:
        return 0.0, 0.0
    times = np.array([one.step_s for one in prefill])
    curve = decode_curve_s(decode, max(one.batch for one in prefill))
    decode_s = np.array([decoding_s(decode, curve, one.batch, one.context_tokens) for one in prefill])
    rows = np.array([(max(one.prefills, 1), one.prefill_tokens) for one in prefill])
    fixed_s, token_s = _relative_fit(rows, times, decode_s)
    return float(fixed_s), float(token_s)


def _relative_fit(rows: Floats, times: Floats, known_s: Floats) -> Floats:
    """The x >= 0 for which ``known_s + rows @ x`` is nearest to ``times``, short and long steps counting alike.

    Rows are divided by the time the last round predicted. Dividing by the measured time would favour steps that
    happened to be quick, and put every prediction below the mean.
    """
    scale, solution = times, np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        solution = non_negative_least_squares(rows / scale[:, None], np.clip(times - known_s, 0.0, None) / scale)
        scale = np.maximum(known_s + rows @ solution, 1e-9)
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
    return float(np.median(errors)) if errors else 0.0
