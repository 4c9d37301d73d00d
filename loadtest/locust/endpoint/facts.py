"""What an endpoint says of itself before and after a run, where it says anything: fleet, metrics, what it takes."""

import re
from typing import Any

from loadtest.locust.endpoint.client import Endpoint

_SERIES = re.compile(r"^(allsorts_[a-z0-9_]+?)(?:\{[^}]*\})? ([0-9.eE+-]+|NaN)$", re.MULTILINE)
_SUMS = (
    "allsorts_requests_total",
    "allsorts_ttft_seconds_sum",
    "allsorts_ttft_seconds_count",
    "allsorts_e2e_seconds_sum",
    "allsorts_e2e_seconds_count",
    "allsorts_prompt_tokens_total",
    "allsorts_cached_tokens_total",
    "allsorts_output_tokens_total",
    "allsorts_shed_total",
    "allsorts_continued_total",
)

PROBE: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "noop", "parameters": {"type": "object"}}}]},
    "response_format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "o", "strict": True, "schema": {"type": "object", "properties": {}}},
        }
    },
    "ignore_eos": {"ignore_eos": True},
}


def refused_features(endpoint: Endpoint, model: str, wanted: frozenset[str]) -> dict[str, str]:
    """Features that the endpoint does not take, with its words. Raises OSError when it does not answer at all."""
    plain = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    taken, said = endpoint.accepts(plain)
    if not taken:
        raise OSError(f"the endpoint refuses a plain chat request to {model!r}: {said}")
    refused = {}
    for name in sorted(wanted):
        taken, said = endpoint.accepts({**plain, **PROBE[name]})
        if not taken:
            refused[name] = said
    return refused


def router_sums(endpoint: Endpoint) -> dict[str, float] | None:
    """The router's own counters, summed over their labels; None where the endpoint is not ours."""
    text = endpoint.get("/metrics")
    if not isinstance(text, str) or "allsorts_requests" not in text:
        return None
    sums = dict.fromkeys(_SUMS, 0.0)
    for name, value in _SERIES.findall(text):
        if name in sums:
            sums[name] += float(value)
    return sums


def fleet(endpoint: Endpoint) -> list[dict[str, Any]]:
    """The workers as ``/admin/fleet`` shows them; empty where the endpoint is not ours."""
    shown = endpoint.get("/admin/fleet")
    workers = shown.get("workers") if isinstance(shown, dict) else None
    return [one for one in workers or () if isinstance(one, dict)]
