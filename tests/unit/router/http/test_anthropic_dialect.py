"""Anthropic's Messages API: its turns into the router's, answers and events as its clients read them."""

import base64
import json
import struct
from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.grammar import GrammarKind
from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall, ToolCallDelta, ToolChoice
from router.domain.answer import Chunk
from router.errors import Unavailable, WorkerFailed
from router.http.dialects.anthropic.answers import Event
from tests.support.http_surface import WORDS, Surface, surface

NO = {"type": "text", "text": "no"}
USER = {"role": "user", "content": "hi"}
TOOL = {"name": "weather", "description": "How it is", "input_schema": {"type": "object", "properties": {}}}
SCRIPT = (
    Chunk(reasoning="hm", token_count=1),
    Chunk(text="Let me ", token_count=1),
    Chunk(text="see.", token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, id="c1", name="weather"),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments='{"at":'),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments='"Oslo"}'),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=1, id="c2", name="time", arguments="oops"),), token_count=1),
    Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4)),
)


async def post(on: Surface, path: str = "/v1/messages", **body: Any) -> httpx.Response:
    wanted = {"model": "m", "max_tokens": 50, "messages": [USER], **body}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    async with on.client() as client:
        return await client.post(path, json=wanted, headers={"anthropic-version": "2023-06-01"})


def events(text: str) -> list[tuple[str, Any]]:
    """Names and data, each checked against its type."""
    found = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n", 1)
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        if body["type"] != "error":
            msgspec.convert(body, Event)
        found.append((body["type"], body))
    return found


async def test_a_whole_answer_is_a_message() -> None:
    on = surface()
    reply = await post(
        on, system="Be brief.", stop_sequences=["END"], temperature=0.5, top_k=3, thinking={"type": "disabled"}
    )
    body = reply.json()
    assert body.pop("id") == reply.headers["x-request-id"]
    assert body == {
        "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "usage": {
            "input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0,
        },
        "allsorts": {"worker": "mac", "quantization": "q4_k_m", "continuations": []},
    }  # fmt: skip
    asked = on.pipeline.requests[0]
    assert [(one.role, one.text) for one in asked.messages] == [("system", "Be brief."), ("user", "hi")]
    sampling = asked.sampling
    assert (sampling.max_tokens, sampling.stop, sampling.temperature, sampling.top_k) == (50, ("END",), 0.5, 3)
    assert json.loads(asked.template_arguments) == {"enable_thinking": False}


async def test_thoughts_text_and_calls_are_blocks_of_their_own() -> None:
    on = surface(script=SCRIPT)
    body = (await post(on, tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})).json()
    assert body["stop_reason"] == "tool_use"
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"at": "Oslo"}},
        {"type": "tool_use", "id": "c2", "name": "time", "input": {"_unreadable": "oops"}},
    ]
    tooling = on.pipeline.requests[0].tooling
    assert tooling is not None
    assert (tooling.choice, tooling.single) == (ToolChoice.REQUIRED, True)


async def test_a_stream_begins_fills_and_ends_each_block() -> None:
    found = events((await post(surface(script=SCRIPT), tools=[TOOL], stream=True)).text)
    block = ["content_block_start", "content_block_delta"]
    assert [name for name, _ in found] == [
        "message_start",
        *block, "content_block_stop",
        *block, "content_block_delta", "content_block_stop",
        *block, "content_block_delta", "content_block_stop",
        *block, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [body["index"] for name, body in found if name == "content_block_stop"] == [0, 1, 2, 3]
    pieces = [body["delta"] for name, body in found if name == "content_block_delta"]
    assert "".join(one.get("text", "") for one in pieces) == "Let me see."
    assert [one["partial_json"] for one in pieces if one["type"] == "input_json_delta"] == ['{"at":', '"Oslo"}', "oops"]
    assert found[0][1]["message"]["usage"]["input_tokens"] == 7
    assert found[-2][1]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2][1]["usage"]["output_tokens"] == 7


async def test_the_sequence_that_stopped_it_is_told() -> None:
    script = (Chunk(text="a", token_count=1), Chunk(finish_reason=FinishReason.STOP, stopped_by="END"))
    body = (await post(surface(script=script))).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")
    assert (await post(surface(), max_tokens=2)).json()["stop_reason"] == "max_tokens"


def png() -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 1, 1) + bytes(5)).decode()


async def test_a_history_of_calls_and_results_becomes_the_routers() -> None:
    on = surface()
    source = {"type": "base64", "media_type": "image/png", "data": png()}
    history = [
        {"role": "user", "content": [{"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should", "signature": "x"},
                {"type": "redacted_thinking", "data": "zzz"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"at": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                },
                {"type": "tool_result", "tool_use_id": "c2"},
                {"type": "image", "source": source},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    assert (await post(on, messages=history, system=[{"type": "text", "text": "S"}])).status_code == 200
    system, user, assistant, first, second, last = on.pipeline.requests[0].messages
    assert (system.role, user.text) == ("system", "look")
    assert (assistant.text, assistant.reasoning) == ("Looking.", "I should")
    assert assistant.tool_calls == (ToolCall(id="c1", name="weather", arguments='{"at":"Oslo"}'),)
    assert (first.role, first.tool_call_id, first.text) == ("tool", "c1", "Error: no")
    assert (second.role, second.tool_call_id, second.text) == ("tool", "c2", "")
    assert (last.role, last.text, last.images[0].media_type) == ("user", "and?", "image/png")


async def test_tokens_are_counted_by_a_worker_and_nothing_is_generated() -> None:
    on = surface()
    reply = await post(on, "/v1/messages/count_tokens", max_tokens=None, tools=[TOOL])
    assert (reply.status_code, reply.json()) == (200, {"input_tokens": 7})
    assert not on.pipeline.running
    assert b'allsorts_output_tokens_total{model="m",quantization="q4_k_m"} 0.0' in on.metrics.render()


async def test_an_output_format_is_a_grammar() -> None:
    for field in ({"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
                  {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}):  # fmt: skip
        on = surface()
        assert (await post(on, **field)).status_code == 200
        grammar = on.pipeline.requests[0].grammar
        assert grammar is not None
        assert grammar.kind is GrammarKind.JSON_SCHEMA


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "And so"}]}, "not begun by the client"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "Unsupported content type"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}
                ]
            },
            "fetches no images",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "Anthropic's own"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "nothing"}}, "none of the tools"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    ],
)
async def test_what_is_wrong_is_told_in_anthropics_shape(change: dict[str, Any], says: str) -> None:
    reply = await post(surface(), **change)
    assert reply.status_code == 400
    body = reply.json()
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert says in body["error"]["message"]


async def test_other_errors_have_anthropics_types_too() -> None:
    full = await post(surface(refuse_with=Unavailable("all busy")))
    assert (full.status_code, full.json()["error"]["type"]) == (503, "overloaded_error")
    lost = await post(surface(), model="nobody")
    assert (lost.status_code, lost.json()["error"]["type"]) == (404, "not_found_error")
    broken = events((await post(surface(break_with=WorkerFailed("gone")), stream=True)).text)
    assert broken[-1][1]["error"] == {"type": "api_error", "message": "gone"}


async def test_a_key_may_come_in_anthropics_header() -> None:
    from router.domain.principal import LOCAL
    from tests.support.http_surface import OpenAuthenticator

    seen: list[str | None] = []

    class Listening(OpenAuthenticator):
        async def authenticate(self, authorization: str | None, scope: Any, *, counted: bool = True) -> Any:
            seen.append(authorization)
            return LOCAL

    async with surface(authenticator=Listening()).client() as client:
        body = {"model": "m", "max_tokens": 5, "messages": [USER]}
        await client.post("/v1/messages", json=body, headers={"x-api-key": "sk-as-1"})
        await client.post("/v1/messages", json=body, headers={"authorization": "Bearer a", "x-api-key": "b"})
    assert seen == ["Bearer sk-as-1", "Bearer a"]
