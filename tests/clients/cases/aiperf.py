"""aiperf."""

import json
import tempfile
from pathlib import Path

from tests.clients.cases._programs import run, tokenizer
from tests.clients.table import MODEL


def benchmark(url: str) -> None:
    """A few streamed chats; every one of them succeeds."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            "aiperf", "profile", "--model", MODEL, "--url", url, "--endpoint-type", "chat", "--streaming",
            "--tokenizer", tokenizer(folder), "--concurrency", "1", "--request-count", "4",
            "--synthetic-input-tokens-mean", "16", "--output-tokens-mean", "8", "--artifact-dir", folder,
            "--ui", "none", cwd=folder,
        )  # fmt: skip
        report = json.loads(next(Path(folder).rglob("profile_export_aiperf.json")).read_text())
        assert report["request_count"]["avg"] == 4
