"""OpenAI's dialect: tools and their calls, structured output in every spelling, arguments of the template."""

import json
from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import Tool, ToolCall, ToolCallDelta, ToolChoice
from router.domain.answer import Chunk
from router.http.dialects.openai.answers import ChatCompletionChunk
from tests.support.http_surface import Surface, events, surface

USER = {"role": "user", "content": "hi"}
WEATHER = {"name": "weather", "description": "How it is", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "time", "strict": True}}]


CALLS = (
    Chunk(reasoning="hm", token_count=1),
    Chunk(text="Let me see. ", token_count=2),
    Chunk(tool_calls=(ToolCallDelta(index=0, id="call_1", name="weather"),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments='{"at": '),), token_count=1),
    Chunk(
        tool_calls=(
            ToolCallDelta(index=0, arguments='"Oslo"}'),
            ToolCallDelta(index=1, id="call_2", name="time", arguments="{}"),
        ),
        token_count=2,
    ),
    Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=7, completion_tokens=7, cached_tokens=1)),
)


async def post(on: Surface, path: str, **body: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.post(path, json={"model": "m", **body})


async def test_tools_reach_the_worker_and_calls_the_client() -> None:
    on = surface(script=CALLS)
    history = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c0",
                    "type": "function",
                    "index": 0,
                    "function": {"name": "weather", "arguments": '{"at":"x"}'},
                },
                {"id": "c1", "type": "function", "function": {"name": "time", "arguments": {}}},
            ],
            "reasoning_content": "I should look",
        },
        {"role": "tool", "tool_call_id": "c0", "content": [{"type": "text", "text": "rain"}]},
    ]
    body = (await on.chat(messages=history, tools=TOOLS, tool_choice="auto", parallel_tool_calls=False)).json()
    asked = on.pipeline.requests[0]
    assert asked.tooling is not None
    assert asked.tooling.tools == (
        Tool(name="weather", description="How it is", parameters='{"type":"object","properties":{}}'),
        Tool(name="time", strict=True),
    )
    assert (asked.tooling.choice, asked.tooling.single) == (ToolChoice.AUTO, True)
    assert asked.messages[1].tool_calls == (
        ToolCall(id="c0", name="weather", arguments='{"at":"x"}'),
        ToolCall(id="c1", name="time", arguments="{}"),
    )
    assert asked.messages[1].reasoning == "I should look"
    assert (asked.messages[2].role, asked.messages[2].tool_call_id, asked.messages[2].text) == ("tool", "c0", "rain")
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see. "
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


async def test_calls_stream_name_first_then_arguments_in_pieces() -> None:
    reply = await surface(script=CALLS).chat(tools=TOOLS, stream=True)
    *said, done = events(reply.text)
    assert done == "[DONE]"
    for event in said:
        msgspec.convert(event, ChatCompletionChunk, strict=True)
    pieces = [call for event in said for call in event["choices"][0]["delta"].get("tool_calls", ())]
    assert pieces[0] == {
        "index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""},
    }  # fmt: skip
    assert "".join(one["function"]["arguments"] for one in pieces if one["index"] == 0) == '{"at": "Oslo"}'
    assert pieces[-1] == {
        "index": 1, "id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"},
    }  # fmt: skip
    assert said[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_what_is_new_of_a_call_is_one_piece_of_its_event() -> None:
    """However much of it came at once: the official client takes the first event's list as it is, one entry a call."""
    name = ToolCallDelta(index=0, id="call_1", name="weather")
    begun, more = (ToolCallDelta(index=0, arguments=part) for part in ('{"at": ', '"Oslo"}'))
    second = ToolCallDelta(index=1, id="call_2", name="time", arguments="{}")
    end = Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=1, completion_tokens=2))
    script = (Chunk(tool_calls=(name, begun, more, second), token_count=4), end)
    said = events((await surface(script=script).chat(tools=TOOLS, stream=True)).text)[:-1]
    (pieces,) = [found for event in said if (found := event["choices"][0]["delta"].get("tool_calls"))]
    assert [(one["index"], one["function"]["name"], one["function"]["arguments"]) for one in pieces] == [
        (0, "weather", '{"at": "Oslo"}'), (1, "time", "{}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "expected", "name", "tools"),
    [
        ("none", ToolChoice.NONE, "", 2),
        ("required", ToolChoice.REQUIRED, "", 2),
        ({"type": "function", "function": {"name": "time"}}, ToolChoice.NAMED, "time", 2),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]},
            },
            ToolChoice.REQUIRED,
            "",
            1,
        ),
    ],
)
async def test_a_tool_choice_says_whether_there_must_be_a_call(
    choice: Any, expected: ToolChoice, name: str, tools: int
) -> None:
    on = surface()
    assert (await on.chat(tools=TOOLS, tool_choice=choice)).status_code == 200
    tooling = on.pipeline.requests[0].tooling
    assert tooling is not None
    assert (tooling.choice, tooling.name, len(tooling.tools)) == (expected, name, tools)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
SCHEMA_TEXT = msgspec.json.encode(SCHEMA).decode()


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar(kind=GrammarKind.JSON_OBJECT)),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": SCHEMA},
                }
            },
            Grammar(kind=GrammarKind.JSON_SCHEMA, text=SCHEMA_TEXT),
        ),
        ({"guided_json": SCHEMA_TEXT}, Grammar(kind=GrammarKind.JSON_SCHEMA, text=SCHEMA_TEXT)),
        ({"json_schema": SCHEMA}, Grammar(kind=GrammarKind.JSON_SCHEMA, text=SCHEMA_TEXT)),
        ({"guided_regex": "[ab]+"}, Grammar(kind=GrammarKind.REGEX, text="[ab]+")),
        ({"guided_choice": ["yes", "no", "yes"]}, Grammar(kind=GrammarKind.CHOICE, choices=("yes", "no"))),
        ({"grammar": 'root ::= "x"'}, Grammar(kind=GrammarKind.GBNF, text='root ::= "x"')),
        ({"guided_grammar": 'start: "x"'}, Grammar(kind=GrammarKind.LARK, text='start: "x"')),
        ({"structured_outputs": {"choice": ["a"]}}, Grammar(kind=GrammarKind.CHOICE, choices=("a",))),
        ({"structured_outputs": {"json_object": True}}, Grammar(kind=GrammarKind.JSON_OBJECT)),
    ],
)
async def test_every_way_of_asking_for_structure_becomes_a_grammar(fields: Any, grammar: Grammar | None) -> None:
    on = surface()
    assert (await on.chat(**fields)).status_code == 200
    assert on.pipeline.requests[0].grammar == grammar


async def test_a_schema_beyond_the_bound_is_refused() -> None:
    reply = await surface().chat(guided_json={"enum": ["x" * 100 for _ in range(4000)]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "guided_json")


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({}, ""),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
    ],
)
async def test_what_concerns_the_template_reaches_it(fields: Any, arguments: Any) -> None:
    on = surface()
    await on.chat(**fields)
    given = on.pipeline.requests[0].template_arguments
    assert (json.loads(given) if given else "") == arguments
