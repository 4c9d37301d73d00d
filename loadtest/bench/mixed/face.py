"""One simulated machine behind an OpenAI face, for routers that know no sessions: the same engine that our worker runs.

Run as a process: ``NODE MODEL PROFILE``; prints its URL, serves until its standard input closes.
"""

import asyncio
import contextlib
import json
import sys
from typing import Any

from loadtest.bench.router.plain_http import CHAT, MODELS, PlainHttp, chunk, event, listed
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job, Sampling
from protos.contract.stream import Delta, RefusalCode
from workers.engines.base import EngineFailed, ModelSpec, Refused
from workers.engines.simulated.engine import SimulatedEngine


class Machine:
    """The engine and who listens to it."""

    def __init__(self, node: str, model: str) -> None:
        self.node = node
        self.model = model
        self.engine = SimulatedEngine()
        self._quantization = ""
        self._number = 0
        self._listening: dict[str, Connection] = {}

    async def load(self, profile: str) -> None:
        """Raises LoadError."""
        spec = ModelSpec(name=self.model, path=profile)
        loaded = await self.engine.load(spec, lambda _fraction, _message: None)
        self._quantization = loaded.quantization

    async def begin(self, asked: dict[str, Any], connection: "Connection") -> tuple[str, int, int]:
        """Name, prompt tokens and cached tokens of a job that now runs. Raises Refused, EngineFailed."""
        self._number += 1
        name = f"chatcmpl-{self.node}-{self._number}"
        tokens = asked.get("max_tokens") or asked.get("max_completion_tokens")
        self._listening[name] = connection
        job = Job(
            request_id=RequestId(name),
            attempt=1,
            model=self.model,
            quantization=self._quantization,
            messages=tuple(ChatMessage(role=one["role"], content=one["content"] or "") for one in asked["messages"]),
            sampling=Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=bool(asked.get("ignore_eos", True))),
        )
        try:
            accepted = await self.engine.submit(job)
        except BaseException:
            del self._listening[name]
            raise
        return name, accepted.prompt_tokens, accepted.cached_tokens

    def drop(self, name: str) -> None:
        """Its client is gone."""
        if self._listening.pop(name, None) is not None:
            self.engine.abort(RequestId(name), 1)

    async def speak(self) -> None:
        """Hand out what the engine says, for ever."""
        async for result in self.engine.steps():
            for delta in result.deltas:
                connection = self._listening.get(delta.request_id)
                if connection is None:
                    continue
                if delta.finish_reason is not None:
                    del self._listening[delta.request_id]
                connection.said(delta)


class Connection(PlainHttp):
    """One connection of a router: one answer at a time."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._name = ""
        self._prompt_tokens = self._cached_tokens = self._tokens = 0
        self._head: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, path: str, body: bytes) -> None:
        """A chat, the list of models, or some health check."""
        if path == CHAT:
            self._spawn(self._chat(json.loads(body)))
        elif path == MODELS:
            self.whole(listed([self._machine.model]))
        else:
            load = self._machine.engine.load_figures()
            self.whole({"status": "ok", "load": load.running + load.waiting, "is_generation": True})

    def connection_lost(self, error: Exception | None) -> None:
        """What ran for it is aborted."""
        super().connection_lost(error)
        if self._name:
            self._machine.drop(self._name)

    def said(self, delta: Delta) -> None:
        """Some of the answer under way."""
        data = b""
        self._tokens += delta.token_count
        if delta.text:
            data = chunk(self._event([{"index": 0, "delta": {"content": delta.text}, "finish_reason": None}]))
        if delta.finish_reason is None:
            self.write(data)
            return
        self._name = ""
        usage = {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._tokens,
                 "total_tokens": self._prompt_tokens + self._tokens,
                 "prompt_tokens_details": {"cached_tokens": self._cached_tokens}}  # fmt: skip
        end = self._event([{"index": 0, "delta": {}, "finish_reason": str(delta.finish_reason)}])
        counted = self._event([], usage=usage) + b"data: [DONE]\n\n"
        self.write(data + chunk(end) + chunk(counted) + b"0\r\n\r\n")

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head, "choices": choices, **more})

    async def _chat(self, asked: dict[str, Any]) -> None:
        try:
            began = await self._machine.begin(asked, self)
        except (Refused, EngineFailed) as error:
            busy = isinstance(error, EngineFailed) or error.code is RefusalCode.BUSY
            said = {"message": str(error), "code": "busy" if busy else "context_length_exceeded"}
            self.whole({"error": said}, 503 if busy else 400)
            return
        self._name, self._prompt_tokens, self._cached_tokens = began
        self._tokens = 0
        self._head = {"id": self._name, "object": "chat.completion.chunk", "created": 1, "model": self._machine.model}
        self.begin_stream(b"x-allsorts-worker: " + self._machine.node.encode())
        if self.transport is None:
            self._machine.drop(self._name)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(node: str, model: str, profile: str) -> None:
    """Until standard input closes."""
    machine = Machine(node, model)
    await machine.load(profile)
    loop = asyncio.get_running_loop()
    speaking = loop.create_task(machine.speak())
    server = await loop.create_server(lambda: Connection(machine), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    speaking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await speaking
    await machine.engine.close()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
