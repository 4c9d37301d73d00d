"""The figures of a run, from its samples: pure. Seconds, tokens, requests a second."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from loadtest.locust.report.run import RunFacts
from loadtest.locust.sample import Sample, Slo
from loadtest.locust.shapes import Shape

POINTS = (50, 90, 95, 99)
CURVE = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)
WINDOWS = 40
"""Into so many stretches a run is cut for its time series."""
KNEE_SHARE = 0.95

Percentiles = dict[str, float]


def percentiles(values: Sequence[float], points: Sequence[float] = POINTS) -> Percentiles:
    """``{"p50": ...}``; empty without values."""
    if not values:
        return {}
    found = np.percentile(values, points)
    return {f"p{point:g}": round(float(value), 6) for point, value in zip(points, found, strict=True)}


def figures(facts: RunFacts, samples: Sequence[Sample]) -> dict[str, Any]:
    """What the report shows, JSON-ready."""
    options = facts.options
    slo, shape = options.slo, options.load_shape
    length_s = max(min(shape.length_s, max((one.due_s for one in samples), default=0.0)), 1e-9)
    done = [one for one in samples if one.ok]
    return {
        "label": facts.label,
        "slo": str(slo),
        "requests": len(samples),
        "complete": len(done),
        "failed": dict(Counter(one.code or "error" for one in samples if one.error and not one.shed)),
        "shed": dict(Counter(one.code for one in samples if one.shed)),
        "continued": sum(one.continuations > 0 for one in samples),
        "continuations": sum(one.continuations for one in samples),
        "offered_per_s": round(len(samples) / length_s, 4),
        "goodput_per_s": round(sum(slo.met_by(one) for one in samples) / length_s, 4),
        "within_slo": round(sum(slo.met_by(one) for one in samples) / max(len(samples), 1), 4),
        "output_tokens_per_s": round(
            sum(one.completion_tokens for one in samples) / max(max((one.ended_s for one in samples), default=0), 1e-9),
            3,
        ),
        "prompt_tokens": sum(one.prompt_tokens for one in samples),
        "cached_tokens": sum(one.cached_tokens for one in samples),
        "output_tokens": sum(one.completion_tokens for one in samples),
        "prefix_hit": _ratio(sum(one.cached_tokens for one in done), sum(one.prompt_tokens for one in done)),
        "valid_json": _mean([one.valid_json for one in done if one.valid_json is not None]),
        **{name: percentiles(values) for name, values in latencies(done).items()},
        "sent_ttft_s": percentiles([one.sent_ttft_s for one in done if one.sent_ttft_s is not None]),
        "curves": {name: percentiles(values, CURVE) for name, values in latencies(done).items()},
        "kinds": {kind: _brief(ones, slo) for kind, ones in _by(samples, "kind").items()},
        "workers": workers(samples, facts.fleet),
        "steps": steps(samples, shape, slo),
        "series": series(samples, slo, length_s),
    }


def latencies(done: Iterable[Sample]) -> dict[str, list[float]]:
    """Of complete requests: TTFT, TPOT, E2E, and the gaps between events that carried output."""
    ones = list(done)
    return {
        "ttft_s": [one.ttft_s for one in ones if one.ttft_s is not None],
        "tpot_s": [one.tpot_s for one in ones if one.tpot_s is not None],
        "e2e_s": [one.e2e_s for one in ones],
        "itl_s": [gap / 1000.0 for one in ones for gap in one.gaps_ms],
    }


def workers(samples: Sequence[Sample], fleet: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each worker's share and speed: measured here, and expected by the router where it says so."""
    named = _by([one for one in samples if one.worker and one.ok], "worker")
    total = sum(map(len, named.values()))
    rows = []
    for worker, ones in sorted(named.items()):
        tpots = [one.tpot_s for one in ones if one.tpot_s is not None]
        busy = _mean_batch(ones)
        rows.append(
            {
                "worker": worker,
                "quantization": ", ".join(sorted({one.quantization for one in ones if one.quantization})),
                "requests": len(ones),
                "share": round(len(ones) / total, 4),
                "output_tokens": sum(one.completion_tokens for one in ones),
                "prefix_hit": _ratio(sum(one.cached_tokens for one in ones), sum(one.prompt_tokens for one in ones)),
                "mean_batch": round(busy, 2),
                "tpot_s": round(float(np.median(tpots)), 6) if tpots else None,
                "expected_tpot_s": _expected_tpot_s(worker, ones, busy, fleet),
            }
        )
    return rows


def steps(samples: Sequence[Sample], shape: Shape, slo: Slo) -> list[dict[str, Any]]:
    """Goodput against offered load: a row for each step of the shape that was offered anything."""
    rows, begins = [], 0.0
    for place, step in enumerate(shape.steps):
        ones = [one for one in samples if shape.step_at(one.due_s) == place]
        if ones:
            good = sum(slo.met_by(one) for one in ones)
            rows.append(
                {
                    "from_s": round(begins, 3),
                    "length_s": round(step.length_s, 3),
                    "rate": round(step.rate, 4),
                    "offered_per_s": round(len(ones) / step.length_s, 4),
                    "goodput_per_s": round(good / step.length_s, 4),
                    "within_slo": round(good / len(ones), 4),
                    "ttft_s": percentiles([one.ttft_s for one in ones if one.ttft_s is not None]),
                }
            )
        begins += step.length_s
    return rows


def knee(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The highest offered load with enough of it inside the targets; None without one, or with a single load."""
    if len({row["rate"] for row in rows}) < 2:
        return None
    held = [row["offered_per_s"] for row in rows if row["within_slo"] >= KNEE_SHARE]
    return max(held, default=None)


def series(samples: Sequence[Sample], slo: Slo, length_s: float) -> list[dict[str, Any]]:
    """The run in stretches of equal length, by when requests were due; tokens by when requests ended."""
    width = length_s / WINDOWS
    rows = []
    for place in range(WINDOWS):
        low, high = place * width, (place + 1) * width
        ones = [one for one in samples if low <= one.due_s < high or (place == WINDOWS - 1 and one.due_s == high)]
        open_then = sum(one.sent_s < high and one.ended_s > high for one in samples)
        rows.append(
            {
                "at_s": round((low + high) / 2.0, 3),
                "offered_per_s": round(len(ones) / width, 4),
                "goodput_per_s": round(sum(slo.met_by(one) for one in ones) / width, 4),
                "in_flight": open_then,
                "failed": sum(bool(one.error) for one in ones),
                "ttft_s": percentiles([one.ttft_s for one in ones if one.ttft_s is not None], (50, 95)),
            }
        )
    return rows


def _brief(ones: Sequence[Sample], slo: Slo) -> dict[str, Any]:
    done = latencies([one for one in ones if one.ok])
    return {
        "requests": len(ones),
        "complete": sum(one.ok for one in ones),
        "within_slo": round(sum(slo.met_by(one) for one in ones) / len(ones), 4),
        "ttft_s": percentiles(done["ttft_s"], (50, 95)),
        "tpot_s": percentiles(done["tpot_s"], (50, 95)),
        "e2e_s": percentiles(done["e2e_s"], (50, 95)),
    }


def _mean_batch(ones: Sequence[Sample]) -> float:
    """Sequences that decoded together, on average over the time in which any did."""
    spans = sorted((one.first_s, one.ended_s) for one in ones if one.first_s is not None)
    whole = sum(end - begin for begin, end in spans)
    covered, reached = 0.0, 0.0
    for begin, end in spans:
        covered += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return whole / covered if covered else 0.0


def _expected_tpot_s(
    worker: str, ones: Sequence[Sample], batch: float, fleet: Sequence[Mapping[str, Any]]
) -> float | None:
    """What the router's profile of the worker says of a step with so many sequences."""
    quantizations = {one.quantization for one in ones}
    context = float(np.mean([one.prompt_tokens + one.completion_tokens / 2.0 for one in ones]))
    for node in fleet:
        for model in node.get("models", ()) if node.get("node") == worker else ():
            speed = model.get("speed")
            if speed and model.get("quantization") in quantizations:
                return _step_s(speed, batch, context)
    return None


def _step_s(speed: Mapping[str, Any], batch: float, context: float) -> float | None:
    """A decode step: on the measured curve where there is one, else by the formula; None where neither is told."""
    curve = speed.get("decode_curve") or ()
    context_s = batch * context * float(speed.get("per_context_token_s") or 0.0)
    if curve:
        base = float(np.interp(batch, [point[0] for point in curve], [point[1] for point in curve]))
    else:
        base = float(speed.get("base_s") or 0.0) + batch * float(speed.get("per_sequence_s") or 0.0)
    return round(base + context_s, 6) if base > 0.0 else None


def _by(samples: Sequence[Sample], name: str) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        found[getattr(one, name)].append(one)
    return found


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
