"""Whatever a client sends, the answer is an OpenAI error with the right status, and nothing is left running."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import HttpConfig
from router.errors import DeadlineExceeded, Unavailable, WorkerFailed
from tests.support.http_surface import Surface, surface

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


async def post(on: Surface, body: bytes | Any, path: str = CHAT, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and the error object, after checking its shape."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with on.client() as client:
        reply = await client.post(path, content=content, headers={"content-type": "application/json", **headers})
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]
    assert not on.pipeline.running
    return reply.status_code, error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": Infinity}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": '
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}",
        b'{"model": "m", "messages": ' + b'[{"role":' * 50_000,
    ],
)
async def test_a_body_that_is_not_proper_json_is_a_400(body: bytes) -> None:
    status, error = await post(surface(), body)
    assert status == 400
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m@"}, "model"),
        ({"model": "m@no such"}, "model"),
        ({"model": "@q8_0"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].image_url",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
                ]
            },
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "video", "text": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "tool", "tool_call_id": "c"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}]},
            "messages[0].tool_calls",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"stop": ["x"] * 100}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"quality": "q8:0"}, "quality"),
        ({"quality": "q4_m_k"}, "quality"),
        ({"model": "m@>=q9"}, "model"),
        ({"model": "m@>="}, "model"),
        ({"model": "m@q8_0", "quality": "q8_0"}, "quality"),
        ({"priority": 1000}, "priority"),
        ({"slo": {"ttft_s": -1}}, "slo.ttft_s"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias[]"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"grammar": "root ::= x", "guided_regex": "x"}, "grammar"),
        ({"guided_choice": []}, "guided_choice"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"guided_json": "{"}, "guided_json"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
            "tool_choice",
        ),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
    ],
)
async def test_a_wrong_parameter_is_a_400_that_names_it(change: dict[str, Any], param: str) -> None:
    on = surface()
    body = {"model": "m", "messages": MESSAGES, **change}
    status, error = await post(on, body)
    assert (status, error["param"]) == (400, param)
    assert not on.pipeline.requests


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        ([], "prompt"),
        ([-1], "prompt[0]"),
        (["a"] * 129, "prompt"),
        ([1, "a"], "prompt"),
        ([[]], "prompt"),
    ],
)
async def test_a_wrong_prompt_is_a_400(prompt: Any, param: str) -> None:
    status, error = await post(surface(), {"model": "m", "prompt": prompt}, "/v1/completions")
    assert (status, error["param"]) == (400, param)


async def test_an_unknown_field_is_named_as_openai_names_it_where_the_operator_wants_it_refused() -> None:
    strict = surface(config=HttpConfig(unknown_fields="refuse"))
    _, error = await post(strict, {"model": "m", "messages": MESSAGES, "foo": 1})
    assert error["message"] == "Unrecognized request argument supplied: foo"
    assert error["code"] == "unknown_parameter"


async def test_an_unknown_model_is_a_404() -> None:
    status, error = await post(surface(), {"model": "gpt-99", "messages": MESSAGES})
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_a_body_over_the_limit_is_a_413_whether_announced_or_not() -> None:
    on = surface(config=HttpConfig(body_limit_bytes=1000))
    status, _ = await post(on, b"x" * 1001)
    assert status == 413

    async def drip() -> Any:
        for _ in range(20):
            yield b"x" * 100

    async with on.client() as client:
        reply = await client.post(CHAT, content=drip(), headers={"content-type": "application/json"})
    assert reply.status_code == 413


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""]
)
async def test_a_body_that_is_not_declared_as_json_is_a_415(kind: str) -> None:
    """Also what keeps web pages of other origins from posting to a router on loopback."""
    status, _ = await post(surface(), {"model": "m", "messages": MESSAGES}, **{"content-type": kind})
    assert status == 415


async def test_unknown_paths_are_a_404_and_wrong_methods_a_405_that_says_what_is_allowed() -> None:
    async with surface().client() as client:
        lost = await client.get("/v2/nothing")
        wrong = await client.get(CHAT)
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "OPTIONS, POST")


async def test_no_capacity_is_a_503_with_retry_after_and_the_reasons() -> None:
    on = surface(refuse_with=Unavailable("mac@q4_k_m: draining", retry_after_s=2.2))
    reply = await on.chat()
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "3"
    assert reply.json()["error"]["message"] == "mac@q4_k_m: draining"
    assert b'allsorts_shed_total{reason="no_capacity"} 1.0' in on.metrics.render()


async def test_a_deadline_that_passed_is_a_504_that_says_when_to_come_back() -> None:
    """As a 503 does; a 502 knows no time."""
    reply = await surface(refuse_with=DeadlineExceeded("too late", retry_after_s=2.2)).chat()
    assert (reply.status_code, reply.headers["retry-after"]) == (504, "3")
    assert "retry-after" not in (await surface(refuse_with=WorkerFailed("gave up")).chat()).headers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"caf\xe9", "not UTF-8: byte 0xe9 at position 60"),
        (b"\\ud800", "\\ud800 is half of a surrogate pair"),
        (b"\\uDC00 and more", "\\uDC00 is half of a surrogate pair"),
        (b"\\\\\\ud83d\\ude00\\ud83d x", "\\ud83d is half of a surrogate pair"),
    ],
)
async def test_text_that_is_no_unicode_is_told_what_is_wrong_with_it(text: bytes, says: str) -> None:
    """In the client's terms, not in those of the decoder."""
    body = b'{"model": "m", "messages": [{"role": "user", "content": "' + text + b'"}]}'
    status, error = await post(surface(), body)
    assert status == 400
    assert says in error["message"]
    assert "codec" not in error["message"]


async def test_a_backslash_before_what_looks_like_an_escape_is_just_text() -> None:
    """``\\\\ud800`` in JSON is a backslash and five letters."""
    on = surface()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "\\\\ud800 \\ud83d\\ude00"}]}'
    async with on.client() as client:
        reply = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200
    _, error = await post(on, body[:-1])
    assert "surrogate" not in error["message"]


async def test_an_unforeseen_error_tells_the_client_nothing_of_its_insides() -> None:
    on = surface(refuse_with=ZeroDivisionError("secret detail"))
    reply = await on.chat()
    assert reply.status_code == 500
    assert "secret" not in reply.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "temperature",
        "max_tokens",
        "stop",
        "stream",
        "stream_options",
        "seed",
        "n",
        "tools",
        "slo",
        "x",
    ]
)


@given(change=st.dictionaries(FIELDS, JSON_VALUES, max_size=3))
@settings(max_examples=150, deadline=None)
async def test_no_json_body_makes_the_router_fail(change: dict[str, Any]) -> None:
    """Every JSON object is answered, or refused as the client's fault."""
    on = surface()
    body = json.dumps({"model": "m", "messages": MESSAGES, **change}).encode()
    async with on.client() as client:
        reply = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code in (200, 400, 404)
    assert not on.pipeline.running


@given(body=st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
async def test_no_bytes_make_the_router_fail(body: bytes) -> None:
    status, _ = await post(surface(), body)
    assert status == 400
