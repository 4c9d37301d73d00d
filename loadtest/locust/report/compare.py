"""Runs side by side: two or more settings, each one run or several repeats, with their spread.

The spread of repeats is their range; of a single run, the range that 90% of resamples of its own requests reach
(blocks of neighbours are drawn together, for neighbours are alike: Künsch 1989). Sides whose spreads meet are not
told apart.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.locust.report.charts import Line, chart
from loadtest.locust.report.figures import CURVE, percentiles
from loadtest.locust.report.page import document, show, table
from loadtest.locust.report.run import BadRun, RunFacts, read
from loadtest.locust.sample import Sample

RESAMPLES, BLOCKS = 200, 20
UNDECIDED = "inside the spread: no conclusion"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that two settings are compared by. ``more`` says which way is better."""

    name: str
    of: Callable[[RunFacts, Sequence[Sample]], float | None]
    more: bool


def _point(name: str, point: float) -> Callable[[RunFacts, Sequence[Sample]], float | None]:
    def found(_: RunFacts, samples: Sequence[Sample]) -> float | None:
        values = [value for one in samples if one.ok and (value := getattr(one, name)) is not None]
        return float(np.percentile(values, point)) if values else None

    return found


def _share(run: RunFacts, samples: Sequence[Sample]) -> float | None:
    """Inside the run's own targets."""
    slo = run.options.slo
    return sum(slo.met_by(one) for one in samples) / len(samples) if samples else None


def _cached(_: RunFacts, samples: Sequence[Sample]) -> float | None:
    prompt = sum(one.prompt_tokens for one in samples)
    return sum(one.cached_tokens for one in samples) / prompt if prompt else None


MEASURES = (
    Measure("inside the targets, share", _share, more=True),
    Measure("TTFT p50, s", _point("ttft_s", 50), more=False),
    Measure("TTFT p99, s", _point("ttft_s", 99), more=False),
    Measure("TPOT p50, s", _point("tpot_s", 50), more=False),
    Measure("TPOT p99, s", _point("tpot_s", 99), more=False),
    Measure("E2E p50, s", _point("e2e_s", 50), more=False),
    Measure("prompt tokens cached, share", _cached, more=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure of one side: its middle, and from where to where it lies."""

    middle: float
    low: float
    high: float


def spread(measure: Measure, runs: Sequence[tuple[RunFacts, Sequence[Sample]]]) -> Spread | None:
    """Of repeats their range, of one run that of its resamples; None where there is nothing to measure."""
    if len(runs) > 1:
        found = [value for facts, samples in runs if (value := measure.of(facts, samples)) is not None]
        middle = float(np.median(found)) if found else None
    else:
        facts, samples = runs[0]
        middle = measure.of(facts, samples)
        found = [value for some in _resamples(samples) if (value := measure.of(facts, some)) is not None]
        if found:
            found = [float(value) for value in np.percentile(found, [5, 95])]
    if middle is None or not found:
        return None
    return Spread(middle=middle, low=min(*found, middle), high=max(*found, middle))


def verdict(measure: Measure, first: Spread | None, other: Spread | None) -> str:
    """In words, of ``other`` against ``first``."""
    if first is None or other is None:
        return "not measured"
    if first.low <= other.high and other.low <= first.high:
        return UNDECIDED
    better = (other.middle > first.middle) is measure.more
    ratio = other.middle / first.middle if first.middle else float("inf")
    return f"{'better' if better else 'worse'}, {ratio:.2f} of the first"


def compare_runs(sides: Sequence[Sequence[Path]], folder: Path) -> str:
    """Write ``compare.html`` and ``compare.json`` there; returns the table as text. Raises BadRun."""
    if len(sides) < 2:
        raise BadRun("--compare is given once: name a second side to compare the first with")
    read_sides = [[read(run) for run in side] for side in sides]
    names = _names(read_sides)
    rows, kept = [], []
    for measure in MEASURES:
        found = [spread(measure, side) for side in read_sides]
        said = [verdict(measure, found[0], other) for other in found[1:]]
        rows.append([measure.name, *(_shown(one) for one in found), *said])
        kept.append(
            {
                "measure": measure.name,
                "sides": [one and [one.middle, one.low, one.high] for one in found],
                "verdicts": said,
            }
        )
    heads = ["", *names, *(f"{name} against {names[0]}" for name in names[1:])]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps({"sides": names, "rows": kept}, indent=1) + "\n", encoding="utf-8")
    charts = [
        _curves(name, key, names, read_sides)
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s"))
    ]
    page = document(
        "Load tests side by side", "<h1>Load tests side by side</h1>",
        '<p class="soft">Middle, and the spread in brackets: of repeats their range, of a single run the range of '
        f"resamples of its own requests. Where spreads meet: {UNDECIDED}.</p>",
        table(heads, rows), '<div class="charts">', *charts, "</div>",
    )  # fmt: skip
    (folder / "compare.html").write_text(page, encoding="utf-8")
    widths = [max(len(str(row[place])) for row in [heads, *rows]) for place in range(len(heads))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *rows]
    ]
    return "\n".join([*lines, f"report: {folder / 'compare.html'}"])


def _curves(
    name: str, key: str, names: Sequence[str], sides: Sequence[Sequence[tuple[RunFacts, Sequence[Sample]]]]
) -> str:
    lines = []
    for label, side in zip(names, sides, strict=True):
        values = [
            value for _, samples in side for one in samples if one.ok and (value := getattr(one, key)) is not None
        ]
        points = percentiles(values, CURVE)
        lines.append(
            Line(name=label, points=[(float(place), value) for place, value in enumerate(points.values()) if value > 0])
        )
    ticks = [(float(CURVE.index(point)), f"{point:g}") for point in (1, 10, 50, 90, 99, 99.9)]
    drawn = chart(lines, x="percentile", y="s", log_y=True, x_ticks=ticks)
    return f"<figure><figcaption>{name}</figcaption>{drawn}</figure>"


def _resamples(samples: Sequence[Sample]) -> list[list[Sample]]:
    ordered = sorted(samples, key=lambda one: one.due_s)
    length = max(len(ordered) // BLOCKS, 1)
    rng = np.random.default_rng(1)
    starts = rng.integers(0, max(len(ordered) - length + 1, 1), size=(RESAMPLES, max(len(ordered) // length, 1)))
    return [[one for start in row for one in ordered[start : start + length]] for row in starts]


def _names(sides: Sequence[Sequence[tuple[RunFacts, Sequence[Sample]]]]) -> list[str]:
    names: list[str] = []
    for side in sides:
        name = side[0][0].label + (f" (x{len(side)})" if len(side) > 1 else "")
        names.append(name if name not in names else f"{name} #{len(names) + 1}")
    return names


def _shown(one: Spread | None) -> str:
    return "-" if one is None else f"{show(one.middle)} ({show(one.low)} to {show(one.high)})"
