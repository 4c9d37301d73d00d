"""What to make of a run: was the generator the limit, and does the router's own account agree? Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadtest.locust.report.figures import percentiles
from loadtest.locust.report.run import RunFacts
from loadtest.locust.sample import Sample
from loadtest.locust.watch import Second

BUSY_CPU = 0.9
BUSY_SHARE = 0.1
"""A generator whose processor is this busy in this share of its seconds measures itself."""
LATE_SHARE, LATE_S = 0.1, 0.005
"""Lateness (p99) that distorts: a tenth of the median TTFT, and no less than 5 ms."""


def generator(samples: Sequence[Sample], watched: Sequence[Second]) -> dict[str, Any]:
    """How the generator did; ``limits`` says in what it, not the server, was the limit."""
    late = percentiles([max(one.lateness_s, 0.0) for one in samples])
    ttft = [one.ttft_s for one in samples if one.ttft_s is not None and one.ok]
    cpus = [second.cpu for second in watched]
    unsent = sum({second.process: second.unsent for second in watched}.values())
    busy = sum(cpu >= BUSY_CPU for cpu in cpus) / len(cpus) if cpus else 0.0
    allowed = max(LATE_S, LATE_SHARE * float(np.median(ttft))) if ttft else LATE_S
    limits = []
    if busy > BUSY_SHARE:
        limits.append(f"its processor was full in {busy:.0%} of the seconds: use more processes")
    if late and late["p99"] > allowed:
        limits.append(f"1 request in 100 was sent {1000 * late['p99']:.0f} ms late or more")
    if unsent:
        limits.append(f"{unsent} sessions were not begun: too many requests were open (--max-in-flight)")
    return {
        "processes": len({second.process for second in watched}),
        "cpu_mean": round(float(np.mean(cpus)), 3) if cpus else None,
        "cpu_most": max(cpus, default=None),
        "timer_lag_ms_p99": percentiles([second.lag_ms for second in watched]).get("p99"),
        "lateness_s": late,
        "unsent": unsent,
        "limits": limits,
    }


def agreement(facts: RunFacts, samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Our figures beside the router's own of the same time; None where it gives none.

    Its counters hold everything it served, so they agree only while nobody else asks it.
    """
    before, after = facts.router_before, facts.router_after
    if before is None or after is None:
        return None
    router = {name: after[name] - before[name] for name in after}
    got = [one for one in samples if one.first_s is not None]
    told = [(one.sent_ttft_s, one.server_ttft_s) for one in got if one.server_ttft_s is not None]
    rows: dict[str, tuple[float, float]] = {
        "requests": (len(samples), router["allsorts_requests_total"]),
        "prompt tokens": (sum(one.prompt_tokens for one in samples), router["allsorts_prompt_tokens_total"]),
        "output tokens": (sum(one.completion_tokens for one in samples), router["allsorts_output_tokens_total"]),
    }
    if got and router["allsorts_ttft_seconds_count"]:
        ours = float(np.mean([one.sent_ttft_s for one in got if one.sent_ttft_s is not None]))
        rows["TTFT mean, s"] = (ours, router["allsorts_ttft_seconds_sum"] / router["allsorts_ttft_seconds_count"])
    if told:
        pairs = np.array(told, dtype=float)
        rows["TTFT p50, s"] = (float(np.median(pairs[:, 0])), float(np.median(pairs[:, 1])))
    return {
        name: {
            "here": round(ours, 6),
            "router": round(theirs, 6),
            "off": round(ours / theirs - 1.0, 4) if theirs else None,
        }
        for name, (ours, theirs) in rows.items()
    }
