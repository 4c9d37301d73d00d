"""Reports: one page and one JSON file a run, and runs side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.locust.report.figures import figures, knee
from loadtest.locust.report.page import page
from loadtest.locust.report.run import PAGE, REPORT, RunFacts, keep, read
from loadtest.locust.report.summary import summary
from loadtest.locust.report.verdicts import agreement, generator
from loadtest.locust.sample import Sample


def write_report(facts: RunFacts, folder: Path) -> str:
    """Make the report of the run whose samples are in ``folder``; returns the summary."""
    keep(facts, folder)
    report = report_of(*read(folder))
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(report), encoding="utf-8")
    return summary({**report, "run": {**report["run"], "page": str(folder / PAGE)}})


def report_of(facts: RunFacts, samples: Sequence[Sample]) -> dict[str, Any]:
    """All figures and verdicts of a run, JSON-ready."""
    found = figures(facts, samples)
    return {
        "run": {"label": facts.label, "sent": _sent(facts), "refused": facts.refused, "started_at": facts.started_at},
        **found,
        "knee_per_s": knee(found["steps"]),
        "agreement": agreement(facts, samples),
        "generator": generator(samples, facts.watched),
    }


def _sent(facts: RunFacts) -> str:
    """What was sent where, in words."""
    one = facts.options
    if one.closed:
        load = f"closed loop, {one.closed} users"
    elif one.trace:
        load = f"open loop, the trace's own times, {one.speed_up:g} times as fast"
    else:
        most = "" if one.shape == "steady" else f" to {one.peak:g}"
        load = f"open loop, {one.shape} at {one.rate:g}{most} requests/s"
    scaled = "" if one.scale == 1.0 else f", lengths times {one.scale:g}"
    name = one.trace.name if one.trace else one.workload
    where = f"{facts.model} at {one.url}; {facts.started_at}"
    return f"{name} for {one.duration_s:g} s, {load}{scaled}, seed {one.seed}; {where}"
