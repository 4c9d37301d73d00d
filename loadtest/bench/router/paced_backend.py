"""A server that speaks OpenAI's API and computes nothing: an engine's steps by the clock, events from prepared bytes.

As in an engine, all running requests get their next token at the end of a step, and a newcomer joins at the next step's
beginning. The model's name is its pace: ``paced`` 10 ms a step, ``paced-40`` 40 ms, ``slow`` 500 ms, and ``unpaced``
writes sixteen events at once for each request as fast as the sockets take them.

Run as a process: prints its URL, serves until its standard input closes.
"""

import asyncio
import json
import sys
import time
from typing import Any

from loadtest.bench.router.plain_http import CHAT, MODELS, PlainHttp, chunk, listed
from loadtest.bench.router.plain_http import event as sse

STEP_S = {"paced": 0.01, "paced-40": 0.04, "slow": 0.5, "unpaced": 0.0}
AT_ONCE = 16
"""Events in one write of the unpaced model."""
PROMPT_TOKENS = 9
BUFFERED_BYTES = 256 * 1024
"""An unpaced request whose client reads slower than this waits for it."""


def _event(event: dict[str, Any], model: str) -> bytes:
    whole = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": model, **event}
    return sse(whole)


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


class Stream:
    """One request that runs."""

    __slots__ = ("connection", "left", "tokens")

    def __init__(self, connection: "Connection", tokens: int) -> None:
        self.connection = connection
        self.tokens = self.left = tokens


class PacedEngine:
    """All requests of one model."""

    def __init__(self, model: str) -> None:
        self._step_s = STEP_S[model]
        self._model = model
        self._token = _event(_choice({"content": "word "}), model)
        self._end = _event(_choice({}, "length"), model)
        self._joining: list[Stream] = []
        self._running: list[Stream] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, stream: Stream) -> None:
        """Joins at the next step."""
        self._joining.append(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        due = time.monotonic()
        while self._joining or self._running:
            self._running += self._joining
            self._joining = []
            due = max(due + self._step_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            self._running = [one for one in self._running if self._speak(one)]

    def _speak(self, stream: Stream) -> bool:
        """Its next tokens; False at its end."""
        transport = stream.connection.transport
        if transport is None or transport.is_closing():
            return False
        if not self._step_s and transport.get_write_buffer_size() > BUFFERED_BYTES:
            return True
        count = 1 if self._step_s else min(AT_ONCE, stream.left)
        data = chunk(self._token * count)
        stream.left -= count
        if stream.left:
            transport.write(data)
            return True
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": stream.tokens}
        usage["total_tokens"] = sum(usage.values())
        counted = _event({"choices": [], "usage": usage}, self._model)
        transport.write(data + chunk(self._end) + chunk(counted + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        return False


class Connection(PlainHttp):
    """One connection, request after request."""

    def __init__(self, engines: dict[str, PacedEngine]) -> None:
        super().__init__()
        self._engines = engines

    def asked(self, path: str, body: bytes) -> None:
        """A chat, the list of models, or some health check."""
        if path == CHAT:
            asked = json.loads(body)
            if not asked.get("stream"):
                self.whole(_plain(asked["model"]))
                return
            self.begin_stream()
            tokens = asked.get("max_tokens") or asked.get("max_completion_tokens") or 16
            self._engines[asked["model"]].add(Stream(self, int(tokens)))
        elif path == MODELS:
            self.whole(listed(list(STEP_S)))
        else:  # health checks and questions about the server
            self.whole({"status": "ok", "model_path": "paced", "is_generation": True})


def _plain(model: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 1, "total_tokens": PROMPT_TOKENS + 1}
    answer = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": model}
    return {**answer, "choices": [choice], "usage": usage}


async def serve() -> None:
    """Until standard input closes."""
    engines = {name: PacedEngine(name) for name in STEP_S}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engines), "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
