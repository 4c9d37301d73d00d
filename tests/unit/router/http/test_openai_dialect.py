"""OpenAI's dialect beyond plain chat: several answers, tools, grammars, echo, images, embeddings, lenient ranges."""

import base64
import json
import struct
from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage
from protos.contract.tools import Tool, ToolCall, ToolCallDelta, ToolChoice
from router.domain.answer import Chunk
from router.domain.request import RequestKind
from router.http.dialects.openai.answers import ChatCompletionChunk, CompletionChunk
from tests.support.http_surface import WORDS, Surface, events, surface

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


@pytest.mark.parametrize(("change", "field", "value"), [
    ({"top_p": 0}, "top_p", 1e-6),
    ({"stop": ""}, "stop", ()),
    ({"stop": ["", "END"]}, "stop", ("END",)),
    ({"logit_bias": {"15": -100, "16": 2.5}}, "logit_bias", {15: -100, 16: 2.5}),
    ({"min_tokens": 3, "max_tokens": 9}, "min_tokens", 3),
    ({"stop_token_ids": [2, 3, 2]}, "stop_token_ids", (2, 3)),
    ({"repeat_penalty": 1.1}, "repetition_penalty", 1.1),
])  # fmt: skip
async def test_ranges_are_as_wide_as_openais_and_engines_fields_are_passed_on(
    change: dict[str, Any], field: str, value: Any
) -> None:
    on = surface()
    assert (await on.chat(**change)).status_code == 200
    assert getattr(on.pipeline.requests[0].sampling, field) == value


async def test_n_choices_are_n_requests_told_apart_by_their_seed_and_answered_as_one() -> None:
    on = surface()
    reply = await on.chat(n=3, seed=5)
    body = reply.json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"".join(WORDS)}
    assert body["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 18, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip
    asked = on.pipeline.requests
    assert [one.sampling.seed for one in asked] == [5, 6, 7]
    assert [one.request_id for one in asked] == [body["id"], f"{body['id']}-1", f"{body['id']}-2"]
    assert not on.pipeline.running


async def test_n_choices_stream_side_by_side() -> None:
    on = surface()
    reply = await on.chat(n=2, stream=True, stream_options={"include_usage": True})
    *said, usage, done = events(reply.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12
    texts, ends = {0: "", 1: ""}, {}
    for event in said:
        msgspec.convert(event, ChatCompletionChunk)
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                ends[choice["index"]] = choice["finish_reason"]
    assert texts == dict.fromkeys((0, 1), "".join(WORDS))
    assert ends == dict.fromkeys((0, 1), "stop")


async def test_a_list_of_prompts_is_answered_in_its_order_and_each_prompt_counts_once() -> None:
    on = surface()
    body = (await post(on, "/v1/completions", prompt=["a", "b"], n=2, max_tokens=6)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 14
    assert body["usage"]["completion_tokens"] == 24
    assert sorted(one.prompt for one in on.pipeline.requests) == ["a", "a", "b", "b"]
    on = surface()
    assert (await post(on, "/v1/completions", prompt=[[1, 2], [3]])).status_code == 200
    assert sorted(one.prompt for one in on.pipeline.requests) == [(1, 2), (3,)]


async def test_one_of_several_answers_that_fails_ends_them_all() -> None:
    from router.errors import WorkerFailed

    on = surface(break_with=WorkerFailed("gone"))
    assert (await on.chat(n=4)).status_code == 502
    assert not on.pipeline.running
    streamed = events((await on.chat(n=4, stream=True)).text)
    assert streamed[-1]["error"]["code"] == "worker_failed"
    assert not on.pipeline.running


async def test_more_answers_than_are_asked_for_at_once_all_come() -> None:
    on = surface()
    reply = await post(on, "/v1/completions", prompt=[f"p{n}" for n in range(64)], n=2, max_tokens=1)
    assert [choice["index"] for choice in reply.json()["choices"]] == list(range(128))


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


RIVALS = (TopLogprob(token_id=9, token=b" cat", logprob=-1.0),)
ECHO = (
    Chunk(
        echo="The sky",
        echo_logprobs=(
            TokenLogprob(token_id=1, token=b"The", logprob=0.0),
            TokenLogprob(token_id=2, token=b" sky", logprob=-2.0, top=RIVALS),
        ),
        text=" is",
        token_count=1,
        logprobs=(TokenLogprob(token_id=3, token=b" is", logprob=-0.5),),
    ),
    Chunk(finish_reason=FinishReason.LENGTH, usage=Usage(prompt_tokens=2, completion_tokens=1)),
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_comes_first_with_the_prompts_log_probabilities(stream: bool) -> None:
    on = surface(script=ECHO)
    reply = await post(on, "/v1/completions", prompt="The sky", echo=True, logprobs=1, max_tokens=1, stream=stream)
    if stream:
        said = events(reply.text)[:-1]
        for event in said:
            msgspec.convert(event, CompletionChunk)
        choice = said[0]["choices"][0]
    else:
        choice = reply.json()["choices"][0]
    assert choice["text"] == "The sky is"
    assert choice["logprobs"] == {
        "tokens": ["The", " sky", " is"],
        "token_logprobs": [None, -2.0, -0.5],
        "top_logprobs": [None, {" cat": -1.0}, {}],
        "text_offset": [0, 3, 7],
    }
    assert on.pipeline.requests[0].sampling.echo


async def test_nothing_but_the_echo_may_be_asked_for() -> None:
    """How evaluators have a text scored."""
    on = surface(script=ECHO)
    assert (await post(on, "/v1/completions", prompt="x", echo=True, max_tokens=0, logprobs=1)).status_code == 200
    assert on.pipeline.requests[0].sampling.max_tokens == 0
    assert (await post(on, "/v1/completions", prompt="x", max_tokens=0)).json()["error"]["param"] == "max_tokens"


def png(width: int = 2, height: int = 3) -> str:
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + bytes(5)
    ).decode()


async def test_an_image_reaches_the_worker_as_its_file_came() -> None:
    on = surface()
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png()}", "detail": "low"}},
    ]
    assert (await on.chat(messages=[{"role": "user", "content": content}])).status_code == 200
    message = on.pipeline.requests[0].messages[0]
    assert (message.text, message.images[0].media_type, message.images[0].detail) == ("What is it?", "image/png", "low")
    assert message.images[0].data == base64.b64decode(png())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/cat.png", "fetches no images"),
        ("ftp://x", "no image"),
        ("data:text/plain;base64,AAAA", "no image"),
        ("data:image/png;base64,AAAA", "no PNG"),
        ("data:image/png;base64,@@@", "not base64"),
        (f"data:image/png;base64,{png(100_000, 100_000)}", "pixels"),
        ("data:image/png;base64," + "A" * 17_000_000, "bytes"),
    ],
)
async def test_images_are_bounded_and_not_fetched(url: str, says: str) -> None:
    from router.config import HttpConfig

    on = surface(config=HttpConfig(body_limit_bytes=64 * 2**20))
    content = [{"type": "image_url", "image_url": {"url": url}}]
    reply = await on.chat(messages=[{"role": "user", "content": content}])
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]
    assert len(reply.content) < 1000


VECTORS = (
    Chunk(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=5),
        vectors=((1.0, 0.0), (0.6, -0.8)),
    ),
)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
async def test_embeddings_take_texts_and_token_ids(given: Any, inputs: Any) -> None:
    on = surface(script=VECTORS)
    body = (await post(on, "/v1/embeddings", input=given, dimensions=2)).json()
    asked = on.pipeline.requests[0]
    assert asked.kind is RequestKind.EMBEDDING
    assert asked.embedding is not None
    assert (asked.embedding.inputs, asked.embedding.dimensions) == (inputs, 2)
    assert body["data"][1] == {"object": "embedding", "index": 1, "embedding": [0.6, -0.8]}
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


async def test_embeddings_come_packed_when_asked_for() -> None:
    body = (await post(surface(script=VECTORS), "/v1/embeddings", input="a", encoding_format="base64")).json()
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (1.0, 0.0)


@pytest.mark.parametrize("given", ["", [""], [], [[]], ["a", 1], [-1], ["a"] * 2049])
async def test_what_cannot_be_embedded_is_a_400(given: Any) -> None:
    reply = await post(surface(script=VECTORS), "/v1/embeddings", input=given)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("input")


async def test_usage_runs_along_when_a_client_wants_it() -> None:
    """As load generators do, which count tokens as they come."""
    reply = await surface().chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    counted = [event["usage"]["completion_tokens"] for event in events(reply.text)[:-1]]
    assert counted == [0, 1, 2, 3, 4, 5, 6, 6, 6]


async def test_models_say_what_clients_fit_their_prompts_to() -> None:
    async with surface().client() as client:
        models = (await client.get("/v1/models")).json()["data"]
    pinned = next(one for one in models if one["id"] == "m@q4_k_m")
    assert (pinned["root"], pinned["max_model_len"], pinned["context_length"]) == ("m", 8192, 8192)
    extras = pinned["allsorts"]
    assert (extras["quantizations"], extras["capabilities"]) == (["q4_k_m"], ["chat", "completion", "logprobs"])
    away = next(one for one in models if one["id"] == "away")
    assert "max_model_len" not in away


async def test_the_documentation_page_and_the_greeting_are_served() -> None:
    async with surface().client() as client:
        page, hello = await client.get("/docs"), await client.get("/")
    assert "openapi.json" in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert "is running" in hello.text
