"""The command-line tool llm, with the endpoint in its list of extra models."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.table import MODEL


def _asked(url: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        extra = Path(folder) / "extra-openai-models.yaml"
        extra.write_text(f"- model_id: pool\n  model_name: {MODEL}\n  api_base: {url}/v1\n  supports_schema: true\n")
        program = Path(sys.executable).with_name("llm")
        environment = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}
        command = [str(program), "prompt", "-m", "pool", "--key", "none", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-800:]
        return done.stdout.strip()


def chat(url: str) -> None:
    """Without streaming."""
    assert _asked(url, "--no-stream", "-o", "max_tokens", "12", "Say hello.")


def stream(url: str) -> None:
    """As it does by itself."""
    assert _asked(url, "-o", "max_tokens", "12", "Say hello.")


def parse(url: str) -> None:
    """A schema in its short form."""
    import json

    assert set(json.loads(_asked(url, "-o", "max_tokens", "80", "--schema", "name, age int", "Ann is 7."))) >= {"name"}
