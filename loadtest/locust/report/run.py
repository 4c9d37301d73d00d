"""A run on disk: ``run.json`` (facts) and ``samples.jsonl`` (one request a line)."""

from pathlib import Path
from typing import Any

import msgspec

from loadtest.locust.options import Options
from loadtest.locust.sample import Sample
from loadtest.locust.watch import Second

FACTS, SAMPLES, REPORT, PAGE = "run.json", "samples.jsonl", "report.json", "report.html"


class BadRun(Exception):
    """A folder that holds no run."""


class RunFacts(msgspec.Struct, kw_only=True):
    """Everything known of a run beside its samples."""

    options: Options
    folder: str
    label: str
    model: str
    started_at: str
    refused: dict[str, str] = {}  # feature: the endpoint's words
    router_before: dict[str, float] | None = None
    router_after: dict[str, float] | None = None
    fleet: list[dict[str, Any]] = []
    watched: list[Second] = []
    lasted_s: float = 0.0


def keep(facts: RunFacts, folder: Path) -> None:
    """Write ``run.json``; a key does not go to disk."""
    known = msgspec.structs.replace(facts, options=msgspec.structs.replace(facts.options, api_key=""))
    (folder / FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=1) + b"\n")


def read(folder: Path) -> tuple[RunFacts, list[Sample]]:
    """A run's facts and samples. Raises BadRun."""
    try:
        facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=RunFacts)
        lines = (folder / SAMPLES).read_bytes().splitlines()
        return facts, [msgspec.json.decode(line, type=Sample) for line in lines if line]
    except (OSError, msgspec.DecodeError) as error:
        raise BadRun(f"{folder} holds no run of a load test: {error}") from None
