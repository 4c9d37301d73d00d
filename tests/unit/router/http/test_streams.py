"""Streams: their events, how they end, and what happens when the client leaves or stops reading."""

import asyncio
import re
from typing import Any

import openai
import pytest

from router.config import HttpConfig
from router.errors import WorkerFailed
from tests.support.http_surface import MOVE, WORDS, Surface, events, on_loopback, surface

TEXT = "".join(WORDS)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":%b}'


async def test_a_stream_is_role_text_reason_and_done() -> None:
    on = surface()
    reply = await on.chat(stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-allsorts-worker"] == "mac"
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == TEXT
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 7 + ["stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert {chunk["id"] for chunk in chunks} == {reply.headers["x-request-id"]}
    assert not on.pipeline.running


async def test_usage_comes_last_when_asked_for_and_is_null_before() -> None:
    reply = await surface().chat(stream=True, stream_options={"include_usage": True})
    *chunks, usage, _ = events(reply.text)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 13


async def test_a_continued_stream_says_so_in_its_last_chunk() -> None:
    reply = await surface(moves=(MOVE,)).chat(stream=True)
    last = events(reply.text)[-2]
    assert last["allsorts"]["worker"] == "h100"
    assert last["allsorts"]["continuations"][0]["from_worker"] == "mac"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_tells_its_time_to_first_token_as_the_metrics_count_it(path: str) -> None:
    """So that who load-tests us can set every request of theirs beside ours."""
    on = surface()
    asked = {"messages": [{"role": "user", "content": "hi"}]} if path.endswith("chat/completions") else {"prompt": "hi"}
    async with on.client() as client:
        reply = await client.post(path, json={"model": "m", "stream": True, **asked})
    told = events(reply.text)[-2]["allsorts"]["ttft_s"]
    counted = re.search(rb"allsorts_ttft_seconds_sum\{[^}]*\} (\S+)", on.metrics.render())
    assert counted is not None
    assert told == pytest.approx(float(counted.group(1)), abs=1e-6)


async def test_a_stream_that_fails_ends_with_an_error_event_and_no_done() -> None:
    on = surface(break_with=WorkerFailed("gave up after 6 attempts"))
    reply = await on.chat(stream=True)
    *chunks, last = events(reply.text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Paris "
    assert last["error"]["code"] == "worker_failed"
    assert not on.pipeline.running
    assert b'status="broken"' in on.metrics.render()


async def test_a_whole_answer_that_fails_is_an_error_with_its_status() -> None:
    on = surface(break_with=WorkerFailed("gave up after 6 attempts"))
    reply = await on.chat()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "worker_failed")
    assert not on.pipeline.running


async def test_the_official_client_reads_whole_and_streamed_answers_from_a_socket() -> None:
    on = surface()
    async with on_loopback(on.app) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], logprobs=True, top_logprobs=1
        )
        assert whole.choices[0].message.content == TEXT
        assert whole.choices[0].logprobs is not None
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 6
        completion = await client.completions.create(model="m", prompt="hi", stream=True)
        assert "".join([part.choices[0].text async for part in completion]) == TEXT
        assert {model.id async for model in client.models.list()} == {"m", "m@q4_k_m", "away"}
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "hi"}])


async def test_the_official_client_raises_when_a_stream_breaks_off() -> None:
    on = surface(break_with=WorkerFailed("gave up"))
    async with on_loopback(on.app) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="gave up"):
            _ = [chunk async for chunk in stream]


class Line:
    """An ASGI connection driven by hand."""

    def __init__(self, body: bytes) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[Any] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.first_sent = asyncio.Event()
        self.first_body = asyncio.Event()

    def hang_up(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.first_sent.set()
        if message["type"] == "http.response.body":
            self.first_body.set()
            await self.taking.wait()

    def call(self, on: Surface) -> asyncio.Task[None]:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"content-type", b"application/json")],
        }
        return asyncio.create_task(on.app(scope, self.receive, self.send))  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [b"true", b"false"])
@pytest.mark.parametrize("stage", ["before acceptance", "before the first word"])
async def test_a_client_that_leaves_while_waiting_aborts_its_generation(stream: bytes, stage: str) -> None:
    on = surface()
    (on.pipeline.accept if stage == "before acceptance" else on.pipeline.gate).clear()
    line = Line(BODY % stream)
    call = line.call(on)
    await on.pipeline.started.wait()
    if stream == b"true" and stage == "before the first word":
        await line.first_sent.wait()  # the status line goes out on acceptance
    line.hang_up()
    await call
    await on.pipeline.ended.wait()
    assert not on.pipeline.running
    assert not any(message["type"] == "http.response.body" for message in line.sent)
    assert b'status="aborted"' in on.metrics.render()
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_leaves_in_mid_stream_aborts_its_generation() -> None:
    on = surface(endless=True)
    line = Line(BODY % b"true")
    call = line.call(on)
    await line.first_body.wait()
    line.hang_up()
    await call
    assert not on.pipeline.running
    assert line.sent[-1]["more_body"] is True
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_stops_reading_is_given_up_and_holds_up_nobody_else() -> None:
    on = surface(config=HttpConfig(stall_s=0.2), endless=True)
    slow = Line(BODY % b"true")
    slow.taking.clear()
    call = slow.call(on)
    await slow.first_body.wait()
    on.pipeline.endless = False
    assert (await on.chat()).status_code == 200
    await call
    assert not on.pipeline.running


async def test_a_client_that_stops_sending_its_body_gets_a_408() -> None:
    on = surface(config=HttpConfig(body_deadline_s=0.05))
    line = Line(b"")
    await line.receive()
    await line.call(on)
    assert line.sent[0]["status"] == 408


async def test_a_disconnect_after_the_last_byte_is_no_abort() -> None:
    """Servers report the end of a complete response as a disconnect."""
    on = surface()
    line = Line(BODY % b"true")
    send = line.send

    async def send_and_hang_up(message: Any) -> None:
        await send(message)
        if message.get("more_body") is False:
            line.hang_up()
            await asyncio.sleep(0)

    line.send = send_and_hang_up  # type: ignore[method-assign]
    await line.call(on)
    assert b'status="200"' in on.metrics.render()


async def test_cancelling_the_server_side_task_aborts_the_generation_and_stays_a_cancellation() -> None:
    on = surface(endless=True)
    line = Line(BODY % b"true")
    call = line.call(on)
    await line.first_body.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not on.pipeline.running


async def test_a_disconnect_on_a_real_socket_aborts_the_generation() -> None:
    on = surface()
    on.pipeline.gate.clear()
    async with on_loopback(on.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = BODY % b"false"
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await on.pipeline.started.wait()
        writer.close()
        await on.pipeline.ended.wait()
        assert not on.pipeline.running


async def test_a_reader_that_stalls_on_a_real_socket_is_given_up() -> None:
    on = surface(config=HttpConfig(stall_s=0.2), endless=True)
    async with on_loopback(on.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        body = BODY % b"true"
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await on.pipeline.ended.wait()
        assert not on.pipeline.running
        writer.close()
