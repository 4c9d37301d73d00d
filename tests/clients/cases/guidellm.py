"""guidellm."""

import json
import tempfile
from pathlib import Path

from tests.clients.cases._programs import run
from tests.clients.table import MODEL


def benchmark(url: str) -> None:
    """A few streamed requests, one after the other; every one of them succeeds."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        lines = [{"prompt": f"Tell me about the number {number}.", "output_tokens_count": 8} for number in range(8)]
        prompts.write_text("\n".join(json.dumps(line) for line in lines))
        out = Path(folder) / "report.json"
        run(
            "guidellm", "run", "--backend", f"kind=openai_http,target={url},model={MODEL}",
            "--profile", "kind=synchronous", "--data", f"kind=json_file,path={prompts}",
            "--constraint", "kind=max_requests,count=4", "--output", f"kind=json,path={out}", "--disable-console",
            cwd=folder,
        )  # fmt: skip
        totals = json.loads(out.read_text())["benchmarks"][0]["metrics"]["request_totals"]
        assert totals["successful"] >= 4
        assert totals["errored"] == 0
