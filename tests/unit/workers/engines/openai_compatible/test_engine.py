"""The engine on servers with every oddity: each costs its own request alone, and every job ends once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job, Sampling
from protos.contract.stream import Delta, FinishReason, RefusalCode
from tests.support.foreign_server import (
    COUNTED,
    STOP,
    USAGE,
    chunk,
    event,
    foreign_server,
    said,
    stream,
    streaming,
    thought,
)
from tests.support.until import until_async
from workers.engines.base import ModelSpec, Refused
from workers.engines.openai_compatible.engine import OpenAICompatibleEngine

CHAT = "POST /v1/chat/completions"


def job(number: int = 0, **more: Any) -> Job:
    content: dict[str, Any] = {
        "request_id": RequestId(f"r{number}"),
        "attempt": 1,
        "model": "m",
        "quantization": "unknown",
        "prompt": "",
        "messages": (ChatMessage(role="user", content="Hi"),),
        "sampling": Sampling(max_tokens=16),
    }
    return Job(**(content | more))


class Rig:
    """An engine on one server, and all that it said."""

    def __init__(self, engine: OpenAICompatibleEngine) -> None:
        self.engine = engine
        self.deltas: list[Delta] = []

    async def read(self) -> None:
        async for step in self.engine.steps():
            self.deltas.extend(step.deltas)

    def of(self, request_id: str) -> list[Delta]:
        return [one for one in self.deltas if one.request_id == request_id]

    def ended(self, request_id: str) -> Delta | None:
        return next((one for one in self.of(request_id) if one.finish_reason is not None), None)

    async def answer(self, one: Job) -> list[Delta]:
        """All deltas of one job; fails when there is another after the last."""
        await self.engine.submit(one)
        await until_async(lambda: self.ended(one.request_id), lambda: self.of(one.request_id), within_s=10)
        await asyncio.sleep(0.02)
        found = self.of(one.request_id)
        assert [delta.finish_reason is not None for delta in found] == [False] * (len(found) - 1) + [True]
        return found


@contextlib.asynccontextmanager
async def on(routes: dict[str, Any], **spec: Any) -> AsyncIterator[Rig]:
    engine = OpenAICompatibleEngine()
    async with foreign_server(routes) as url:
        await engine.load(ModelSpec(name="m", path=url, **spec), lambda _fraction, _message: None)
        rig = Rig(engine)
        reader = asyncio.create_task(rig.read())
        try:
            yield rig
            load = engine.load_figures()
            assert (load.running, load.waiting) == (0, 0)
        finally:
            await engine.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


def words(deltas: list[Delta]) -> str:
    return "".join(one.text for one in deltas)


def thoughts(deltas: list[Delta]) -> str:
    return "".join(one.reasoning for one in deltas)


PLAIN = stream(chunk({"role": "assistant", "content": ""}), *said("Two", " plus", " two"), STOP, COUNTED)


@pytest.mark.parametrize(
    ("body", "text", "reasoning"),
    [
        (PLAIN, "Two plus two", ""),
        (stream(*thought("reasoning", "Let", " me"), *said("Four"), STOP, COUNTED), "Four", "Let me"),
        (stream(*thought("reasoning_content", "Let", " me"), *said("Four"), STOP), "Four", "Let me"),
        (stream(*thought("reasoning", "Let"), chunk(finish="length")), "", "Let"),
        (stream({"choices": [], "prompt_filter_results": []}, *said("Four"), STOP), "Four", ""),
        (stream(*said("Four"), STOP, {"choices": [], "usage": {**USAGE, "prompt_tokens_details": [{}]}}), "Four", ""),
        (stream(*said("Four"), chunk(finish="stop", usage={"prompt_tokens": "9.0"})), "Four", ""),
        (stream(chunk({"content": [{"type": "text", "text": "Four"}]}), STOP), "Four", ""),
        (stream({"choices": [None]}, *said("Four"), STOP), "Four", ""),
        (stream(chunk({"content": "Four"}, finish=""), STOP), "Four", ""),
        (stream(*said("Four")), "Four", ""),
        (stream(*said("Four"), STOP, done=False), "Four", ""),
        (stream(*said("Four"), chunk(finish="content_filter")), "Four", ""),
        (PLAIN.replace(b"\n", b"\r\n"), "Two plus two", ""),
        (PLAIN.replace(b"data: ", b": ping\n\nevent: message\ndata:"), "Two plus two", ""),
    ],
)
async def test_odd_streams_are_answers_all_the_same(body: bytes, text: str, reasoning: str) -> None:
    async with on({CHAT: streaming(body)}) as rig:
        deltas = await rig.answer(job())
        assert deltas[-1].finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        assert (words(deltas), thoughts(deltas)) == (text, reasoning)
        usage = deltas[-1].usage
        assert usage is not None
        assert usage.completion_tokens >= sum(one.token_count for one in deltas) > 0


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (streaming(stream(*said("Fo"), {"error": {"message": "CUDA out of memory"}})), "CUDA out of memory"),
        (streaming(event(said("Fo")[0]) + event({"message": "boom"}, "error")), "the server said: boom"),
        (streaming(event(said("Fo")[0]) + event("boom", "error")), "the server said:"),
        (
            streaming(b"<html>Welcome</html>", content_type="text/html"),
            "a page of text/html instead of an answer: '<html>",
        ),
        (streaming(b'{"detail": "no"}', content_type="application/json"), "the server said: no"),
        (streaming(b"{", content_type="application/json"), "calls itself JSON and is none"),
        (streaming(b"hello\n\n"), "without a finish reason"),
        (streaming(b"data: <html>\n\n"), "no JSON"),
        (streaming(event(said("Fo")[0]), cut=True), "broke off"),
        (streaming(b"data: " + b"x" * 3_000_000), "a line of more than"),
    ],
)
async def test_a_stream_that_fails_ends_its_own_job_with_the_servers_words(handler: Any, says: str) -> None:
    """And the next job on the same server is answered."""
    answers = iter([handler, streaming(PLAIN)])

    async def first_odd(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)  # type: ignore[no-any-return]

    async with on({CHAT: first_odd}) as rig:
        deltas = await rig.answer(job(1))
        assert deltas[-1].finish_reason is FinishReason.ERROR
        assert says in deltas[-1].error
        assert "\n" not in deltas[-1].error
        assert words(await rig.answer(job(2))) == "Two plus two"


async def test_an_answer_in_one_piece_is_one() -> None:
    message = {"role": "assistant", "content": "Four", "reasoning_content": "Hm"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    async with on({CHAT: body}) as rig:
        deltas = await rig.answer(job())
        assert (words(deltas), thoughts(deltas)) == ("Four", "Hm")
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, b'{"error": {"message": "exploded"}}', RefusalCode.ENGINE_FAILED),
        (502, b"<html>bad gateway</html>", RefusalCode.ENGINE_FAILED),
        (429, b'{"error": "exploded"}', RefusalCode.BUSY),
        (503, b"", RefusalCode.BUSY),
        (400, b'{"error": {"message": "context", "n_ctx": "odd", "n_prompt_tokens": [1]}}', RefusalCode.CONTEXT_LENGTH),
        (422, b'{"detail": [{"msg": "exploded"}]}', RefusalCode.INVALID),
        (404, b"[[", RefusalCode.MODEL_NOT_LOADED),
        (418, b"[" * 60_000, RefusalCode.ENGINE_FAILED),
    ],
)
async def test_a_servers_no_is_a_refusal(status: int, body: bytes, code: RefusalCode) -> None:
    async with on({CHAT: streaming(body, status=status, content_type="application/json")}) as rig:
        with pytest.raises(Refused) as refused:
            await rig.engine.submit(job())
        assert refused.value.code is code
        assert "\n" not in refused.value.message
        assert rig.deltas == []


async def test_a_mistake_of_our_own_ends_the_job_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while a stream is read: the client hears it at once, not at its deadline."""

    async def broken(_running: Any) -> AsyncIterator[Delta]:
        raise KeyError("unforeseen")
        yield

    async with on({CHAT: streaming(PLAIN)}) as rig:
        with monkeypatch.context() as patched:
            patched.setattr("workers.engines.openai_compatible.engine.deltas_of", broken)
            with pytest.raises(Refused, match="KeyError: 'unforeseen'"):
                await rig.engine.submit(job(1))
        assert words(await rig.answer(job(2))) == "Two plus two"


class Counting:
    """A server that answers in a moment, and knows how many it had at once."""

    def __init__(self, pause_s: float = 0.1, room: int = 10**6) -> None:
        self.pause_s, self.room = pause_s, room
        self.now = self.most = self.refused = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self.now >= self.room:
            self.refused += 1
            return web.json_response({"error": "full"}, status=429)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.now -= 1
        return await streaming(PLAIN)(request)


@pytest.mark.parametrize(("slots", "most"), [(256, 64), (20, 20), (0, 64)])
async def test_as_many_go_to_the_server_as_there_are_slots(slots: int, most: int) -> None:
    """No limit of our own beside them: sixty-four clients are sixty-four connections."""
    server = Counting()
    async with on({CHAT: server}, slots=slots) as rig:
        async with asyncio.TaskGroup() as clients:
            for number in range(64):
                clients.create_task(rig.engine.submit(job(number)))
        ended = [rig.ended(f"r{number}") for number in range(64)]
        await until_async(lambda: all(rig.ended(f"r{number}") for number in range(64)), lambda: ended, within_s=20)
        assert {delta.finish_reason for delta in rig.deltas if delta.finish_reason} == {FinishReason.STOP}
        assert server.most == most


async def test_a_server_full_of_jobs_is_still_asked_whether_it_lives() -> None:
    """The probe has a connection of its own."""
    async with on({CHAT: Counting(pause_s=2.0)}, slots=64) as rig:
        async with asyncio.TaskGroup() as clients:
            for number in range(64):
                clients.create_task(rig.engine.submit(job(number)))
        (upstream,) = rig.engine.held()
        alive = upstream.alive_count
        await upstream.check()
        assert upstream.down == ""
        assert upstream.alive_count > alive
        for number in range(64):
            rig.engine.abort(f"r{number}", 1)


async def test_one_that_says_it_is_full_gets_fewer_at_once() -> None:
    """What it refuses is BUSY, so that the router may place it elsewhere; the window closes."""
    server = Counting(room=8)
    async with on({CHAT: server}) as rig:

        async def client(number: int) -> None:
            with contextlib.suppress(Refused):
                await rig.engine.submit(job(number))

        async with asyncio.TaskGroup() as clients:
            for number in range(40):
                clients.create_task(client(number))
        (upstream,) = rig.engine.held()
        assert server.refused > 0
        assert upstream.slots.window.limit < 64
        await until_async(lambda: rig.engine.load_figures().running == 0, rig.engine.load_figures, within_s=10)


async def test_others_requests_count_as_load_where_the_server_tells() -> None:
    """vLLM's own figures: what other clients have there is waited for, too."""
    models = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]}
    page = 'vllm:num_requests_running{model_name="m"} 5\nvllm:num_requests_waiting{model_name="m"} 2\n'

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=page)

    async with on({CHAT: streaming(PLAIN), "GET /v1/models": models, "GET /metrics": metrics}) as rig:
        (upstream,) = rig.engine.held()
        await upstream.check()
        load = rig.engine.load_figures()
        assert (load.running, load.waiting) == (5, 2)
        page = ""
        await upstream.check()
