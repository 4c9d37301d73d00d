"""A server that speaks OpenAI's API and computes nothing: an engine's steps by the clock, events from prepared bytes.

As in an engine, all running requests get their next token at the end of a step, and a newcomer joins at the next step's
beginning. The model's name is its pace: ``paced`` 10 ms a step, ``paced-40`` 40 ms, ``slow`` 500 ms, and ``unpaced``
writes sixteen events at once for each request as fast as the sockets take them. Acknowledges at once (TCP_QUICKACK), so
that a proxy that writes a request in two pieces without TCP_NODELAY is not held up by this side's delayed ACK.

Run as a process: prints its URL, serves until its standard input closes.
"""

import asyncio
import json
import socket
import sys
import time
from typing import Any, cast

STEP_S = {"paced": 0.01, "paced-40": 0.04, "slow": 0.5, "unpaced": 0.0}
AT_ONCE = 16
"""Events in one write of the unpaced model."""
PROMPT_TOKENS = 9
BUFFERED_BYTES = 256 * 1024
"""An unpaced request whose client reads slower than this waits for it."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(event: dict[str, Any], model: str) -> bytes:
    whole = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": model, **event}
    return b"data: " + json.dumps(whole, separators=(",", ":")).encode() + b"\n\n"


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
        data = _chunk(self._token * count)
        stream.left -= count
        if stream.left:
            transport.write(data)
            return True
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": stream.tokens}
        usage["total_tokens"] = sum(usage.values())
        counted = _event({"choices": [], "usage": usage}, self._model)
        transport.write(data + _chunk(self._end) + _chunk(counted + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        return False


class Connection(asyncio.Protocol):
    """One connection, request after request."""

    def __init__(self, engines: dict[str, PacedEngine]) -> None:
        self.transport: asyncio.Transport | None = None
        self._engines = engines
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket, for its acknowledgements."""
        self.transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")

    def connection_lost(self, _error: Exception | None) -> None:
        """What ran for it ends at its next step."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Requests, whole or in pieces."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = self._buffer[:end].decode("latin-1").lower().split("\r\n")
            if not lines[0].endswith("http/1.1"):  # a router asking whether gRPC is spoken here
                self._hang_up()
                return
            length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            self._answer(lines[0].split(" ")[1], body)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _answer(self, path: str, body: bytes) -> None:
        if path.startswith("/v1/chat/completions"):
            asked = json.loads(body)
            if not asked.get("stream"):
                self._whole(_plain(asked["model"]))
                return
            assert self.transport is not None
            self.transport.write(_HEAD)
            tokens = asked.get("max_tokens") or asked.get("max_completion_tokens") or 16
            self._engines[asked["model"]].add(Stream(self, int(tokens)))
        elif path.startswith("/v1/models"):
            listed = [{"id": name, "object": "model", "owned_by": "bench"} for name in STEP_S]
            self._whole({"object": "list", "data": listed})
        else:  # health checks and questions about the server
            self._whole({"status": "ok", "model_path": "paced", "is_generation": True})

    def _whole(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        assert self.transport is not None
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
        self.transport.write(head + data)


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
