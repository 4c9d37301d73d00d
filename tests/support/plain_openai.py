"""The smallest server that speaks OpenAI's API: one model, answers with a fixed text, streamed word by word."""

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator

ANSWER = "The capital of France is Paris."
MODEL = "tiny-q8_0"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = MODEL

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._reply({"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "test"}]})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        words = ANSWER.split(" ")
        for number, word in enumerate(words):
            text = word if number == 0 else f" {word}"
            self._event({"choices": [{"index": 0, "delta": {"content": text}, "text": text, "finish_reason": None}]})
        self._event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)}
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, event: dict[str, object]) -> None:
        self.wfile.write(b"data: " + json.dumps({"id": "x", "object": "chunk", **event}).encode() + b"\n\n")

    def _reply(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def plain_openai(model: str = MODEL) -> Iterator[str]:
    """Its base URL."""
    handler = type("Handler", (_Handler,), {"model": model})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """As a process: prints its URL, serves until its standard input closes."""
    with plain_openai() as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
