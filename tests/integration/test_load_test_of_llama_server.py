"""The same locust file, unchanged, against llama.cpp's own server with a real model."""

import json
from pathlib import Path

import pytest

from loadtest.locust.cli import run_locust
from loadtest.locust.options import Options
from loadtest.peers.llama_server import running

pytestmark = pytest.mark.model


def test_a_mix_is_answered_by_a_server_of_somebody_else(model_files: dict[str, Path], tmp_path: Path) -> None:
    """Chats, code, agents and extraction: complete, with real counts of tokens; what it refuses is said."""
    folder = tmp_path / "run"
    with running(model_files["q8_0"], context_tokens=1024, slots=2) as url:
        options = Options(url=url, workload="mix", rate=1.0, duration_s=8.0, scale=0.05, longest_prompt=200,
                          longest_output=12, out=str(folder), drain_s=60.0)  # fmt: skip
        assert run_locust(options) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["complete"] == report["requests"] > 2
    assert report["prompt_tokens"] > 10 * report["requests"]
    assert 0 < report["output_tokens"] <= 96 * report["requests"]
    assert report["agreement"] is None
    assert "</html>" in (folder / "report.html").read_text()
