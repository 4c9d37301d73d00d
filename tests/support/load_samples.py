"""Samples and runs of load tests, made by hand."""

from typing import Any

from loadtest.locust.options import Options
from loadtest.locust.report.run import RunFacts
from loadtest.locust.sample import Sample


def sample(due_s: float = 0.0, *, ttft_s: float = 0.1, tpot_s: float = 0.01, tokens: int = 11, **more: Any) -> Sample:
    """A complete answer, sent when it was due."""
    first = due_s + ttft_s
    known: dict[str, Any] = {
        "kind": "azure-like",
        "session": round(due_s * 1000),
        "turn": 0,
        "due_s": due_s,
        "sent_s": due_s,
        "first_s": first,
        "ended_s": first + tpot_s * (tokens - 1),
        "status": 200,
        "prompt_tokens": 100,
        "completion_tokens": tokens,
        "events": tokens,
        "gaps_ms": [1000.0 * tpot_s] * (tokens - 1),
        "worker": "m1",
        "quantization": "q8_0",
    }
    return Sample(**{**known, **more})


def shed(due_s: float, code: str = "no_capacity") -> Sample:
    """Refused before any work."""
    return Sample(kind="azure-like", session=0, turn=0, due_s=due_s, sent_s=due_s, ended_s=due_s + 0.01, status=503,
                  error="full", code=code)  # fmt: skip


def facts(folder: str = "run", label: str = "a run", **options: Any) -> RunFacts:
    """A run's facts."""
    given: dict[str, Any] = {"url": "http://127.0.0.1:8000", "duration_s": 10.0, **options}
    return RunFacts(
        options=Options(**given), folder=folder, label=label, model="tiny", started_at="2026-11-30 19:00:00"
    )
