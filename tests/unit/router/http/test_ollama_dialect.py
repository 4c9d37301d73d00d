"""Ollama's API: NDJSON unless told otherwise, its own names, options and list of models."""

import json
from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall, ToolCallDelta
from router.domain.answer import Chunk
from router.domain.request import RequestKind
from router.errors import WorkerFailed
from router.http.dialects.ollama.answers import GenerateAnswer, OllamaChatAnswer
from tests.support.http_surface import WORDS, Surface, surface

USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
SCRIPT = (
    Chunk(reasoning="hm", token_count=1),
    Chunk(text="Well.", token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, id="c1", name="weather", arguments='{"at":'),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments='"Oslo"}'),), token_count=1),
    Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=9, completion_tokens=4)),
)


async def post(on: Surface, path: str, **body: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.post(path, json={"model": "m", **body})


def lines(reply: httpx.Response, kind: Any) -> list[Any]:
    """A stream's, each checked against its type."""
    assert reply.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(line) for line in reply.text.splitlines()]
    for one in found:
        msgspec.convert(one, kind)
    return found


async def test_a_chat_streams_lines_unless_it_is_told_not_to() -> None:
    found = lines(await post(surface(), "/api/chat", messages=[USER]), OllamaChatAnswer)
    assert "".join(one["message"]["content"] for one in found) == "".join(WORDS)
    assert [one["done"] for one in found] == [*[False] * len(WORDS), True]
    last = found[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 7, 6)
    assert last["total_duration"] >= last["eval_duration"] >= 0
    whole = (await post(surface(), "/api/chat", messages=[USER], stream=False)).json()
    assert (whole["message"]["content"], whole["done"]) == ("".join(WORDS), True)


async def test_options_are_the_sampling() -> None:
    on = surface()
    options = {
        "num_predict": 3, "temperature": 0, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "seed": 7, "stop": ["END", ""],
        "repeat_penalty": 1.2, "num_ctx": 4096, "mirostat": 0,
    }  # fmt: skip
    assert (await post(on, "/api/chat", messages=[USER], options=options, keep_alive="5m", think=False)).is_success
    asked = on.pipeline.requests[0]
    drawn = asked.sampling
    assert (drawn.max_tokens, drawn.temperature, drawn.top_k, drawn.top_p, drawn.min_p) == (3, 0, 5, 0.5, 0.1)
    assert (drawn.seed, drawn.stop, drawn.repetition_penalty) == (7, ("END",), 1.2)
    assert json.loads(asked.template_arguments) == {"enable_thinking": False}
    on = surface()
    await post(on, "/api/chat", messages=[USER], options={"num_predict": -1})
    assert on.pipeline.requests[0].sampling.max_tokens is None


async def test_calls_come_whole_and_thoughts_apart() -> None:
    on = surface(script=SCRIPT)
    history = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]
    found = lines(await post(on, "/api/chat", messages=history, tools=TOOLS), OllamaChatAnswer)
    assert [one["message"].get("thinking") for one in found if "thinking" in one["message"]] == ["hm"]
    called = [one["message"]["tool_calls"] for one in found if "tool_calls" in one["message"]]
    assert called == [[{"id": "c1", "function": {"name": "weather", "arguments": {"at": "Oslo"}, "index": 0}}]]
    messages = on.pipeline.requests[0].messages
    assert messages[1].tool_calls == (ToolCall(id="", name="weather", arguments='{"a":1}'),)
    assert (messages[2].role, messages[2].name, messages[2].text) == ("tool", "weather", "rain")
    whole = (await post(surface(script=SCRIPT), "/api/chat", messages=[USER], stream=False)).json()
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == {"at": "Oslo"}


async def test_generate_goes_through_the_template_unless_it_is_raw() -> None:
    on = surface()
    found = lines(await post(on, "/api/generate", prompt="hi", system="Be brief."), GenerateAnswer)
    assert "".join(one["response"] for one in found) == "".join(WORDS)
    assert [(one.role, one.text) for one in on.pipeline.requests[0].messages] == [
        ("system", "Be brief."),
        ("user", "hi"),
    ]
    await post(on, "/api/generate", prompt="hi", raw=True, stream=False)
    assert (on.pipeline.requests[1].kind, on.pipeline.requests[1].prompt) == (RequestKind.COMPLETION, "hi")


async def test_generate_without_a_prompt_says_that_the_model_is_loaded() -> None:
    on = surface()
    body = (await post(on, "/api/generate", keep_alive="10m")).json()
    assert (body["done"], body["done_reason"], body["response"]) == (True, "load", "")
    assert not on.pipeline.running


@pytest.mark.parametrize(
    ("given", "grammar"),
    [
        ("json", Grammar(kind=GrammarKind.JSON_OBJECT)),
        ({"type": "object"}, Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"type":"object"}')),
        ("", None),
    ],
)
async def test_a_format_is_a_grammar(given: Any, grammar: Grammar | None) -> None:
    on = surface()
    assert (await post(on, "/api/chat", messages=[USER], format=given)).is_success
    assert on.pipeline.requests[0].grammar == grammar


async def test_embeddings_come_under_both_paths() -> None:
    vectors = (Chunk(finish_reason=FinishReason.STOP, usage=Usage(prompt_tokens=3), vectors=((1.0, 0.0), (0.0, 1.0))),)
    body = (await post(surface(script=vectors), "/api/embed", input=["a", "b"])).json()
    assert (body["embeddings"], body["prompt_eval_count"]) == ([[1.0, 0.0], [0.0, 1.0]], 3)
    assert (await post(surface(script=vectors), "/api/embeddings", prompt="a")).json() == {"embedding": [1.0, 0.0]}


async def test_models_are_listed_shown_and_said_to_run() -> None:
    on = surface()
    async with on.client() as client:
        tags = (await client.get("/api/tags")).json()["models"]
        running = (await client.get("/api/ps")).json()["models"]
        version = (await client.get("/api/version")).json()
        shown = (await client.post("/api/show", json={"model": "m:latest"})).json()
        lost = await client.post("/api/show", json={"name": "nobody"})
    assert [one["name"] for one in tags] == ["m", "m@q4_k_m"]
    assert tags[0]["details"]["quantization_level"] == "Q4_K_M"
    assert running[0]["context_length"] == 8192
    assert set(version) == {"version"}
    assert shown["capabilities"] == ["completion"]
    assert (lost.status_code, lost.json()) == (404, {"error": "model 'nobody' not found"})


async def test_latest_is_the_model_itself_and_a_body_needs_no_type_unless_a_browser_sends_it() -> None:
    """``curl -d`` declares a form; a page of another origin that does the same names itself."""
    body = json.dumps({"model": "m:latest", "messages": [USER], "stream": False}).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    on = surface()
    async with on.client() as client:
        assert (await client.post("/api/chat", content=body, headers=form)).status_code == 200
        for header, value in (("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")):
            reply = await client.post("/api/chat", content=body, headers={**form, header: value})
            assert reply.status_code == 415
        assert (await client.post("/v1/chat/completions", content=body, headers=form)).status_code == 415
    assert on.pipeline.requests[0].model.name == "m"


async def test_errors_are_ollamas() -> None:
    lost = await post(surface(), "/api/chat", model="nobody", messages=[USER])
    assert (lost.status_code, set(lost.json())) == (404, {"error"})
    broken = await post(surface(break_with=WorkerFailed("gone")), "/api/chat", messages=[USER])
    assert json.loads(broken.text.splitlines()[-1]) == {"error": "gone"}
    for change in ({"options": {"mirostat": 1}}, {"messages": []}, {"messages": [{**USER, "images": ["@"]}]}):
        refused = await post(surface(), "/api/chat", **{"messages": [USER], **change})
        assert (refused.status_code, set(refused.json())) == (400, {"error"})
