"""llama-benchy."""

import functools
import http.server
import tempfile
import threading
from pathlib import Path

from tests.clients.cases._programs import run, tokenizer
from tests.clients.table import MODEL


def benchmark(url: str) -> None:
    """One size of prompt and answer, from a book that lies beside it; it prints its table."""
    with tempfile.TemporaryDirectory() as folder:
        words = " ".join(f"w{number % 2000}" for number in range(20_000))
        (Path(folder) / "book.txt").write_text(words)
        shelf = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        )
        threading.Thread(target=shelf.serve_forever, daemon=True).start()
        try:
            said = run(
                "llama-benchy", "--base-url", f"{url}/v1", "--model", MODEL, "--tokenizer", tokenizer(folder),
                "--book-url", f"http://127.0.0.1:{shelf.server_port}/book.txt", "--pp", "32", "--tg", "8",
                "--runs", "1", "--exact-tg", "--skip-coherence", cwd=folder,
            )  # fmt: skip
        finally:
            shelf.shutdown()
        assert "tg8" in said.replace(" ", ""), said[-800:]
