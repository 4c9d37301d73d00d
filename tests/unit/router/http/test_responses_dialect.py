"""OpenAI's Responses API: items in, items out, each event of its stream in its order."""

import json
from typing import Any, Union

import httpx
import msgspec
import pytest

from protos.contract.grammar import GrammarKind
from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall, ToolCallDelta, ToolChoice
from router.domain.answer import Chunk
from router.errors import WorkerFailed
from router.http.dialects.responses.answers import Response
from router.http.dialects.responses.events import EVENTS
from tests.support.http_surface import WORDS, Surface, surface

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}
SCRIPT = (
    Chunk(reasoning="hm", token_count=1),
    Chunk(text="Let me ", token_count=1),
    Chunk(text="see.", token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, id="c1", name="weather", arguments='{"at":'),), token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments='"Oslo"}'),), token_count=1),
    Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=9, completion_tokens=5, cached_tokens=4)),
)


async def post(on: Surface, **body: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.post("/v1/responses", json={"model": "m", "input": "hi", **body})


def events(text: str) -> list[Any]:
    """The data, each checked against its type, in the order of its numbers."""
    found = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n", 1)
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        msgspec.convert(body, Union[EVENTS])  # type: ignore[valid-type]  # noqa: UP007 - of a tuple
        found.append(body)
    if found[-1]["type"] != "error":
        assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


async def test_a_whole_answer_is_a_response() -> None:
    on = surface()
    reply = await post(
        on, instructions="Be brief.", max_output_tokens=50, temperature=0.5, store=True, metadata={"a": "b"}
    )
    body = reply.json()
    msgspec.convert(body, Response)
    assert (body["id"], body["status"], body["store"]) == (reply.headers["x-request-id"], "completed", True)
    assert body["output"][0]["content"][0]["text"] == "".join(WORDS)
    assert body["usage"] == {
        "input_tokens": 7, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13,
    }  # fmt: skip
    asked = on.pipeline.requests[0]
    assert [(one.role, one.text) for one in asked.messages] == [("system", "Be brief."), ("user", "hi")]
    assert (asked.sampling.max_tokens, asked.sampling.temperature) == (50, 0.5)
    cut = (await post(surface(), max_output_tokens=2)).json()
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_thoughts_texts_and_calls_are_items() -> None:
    on = surface(script=SCRIPT)
    body = (await post(on, tools=[TOOL], tool_choice={"type": "function", "name": "weather"})).json()
    msgspec.convert(body, Response)
    assert [one["type"] for one in body["output"]] == ["reasoning", "message", "function_call"]
    call = body["output"][2]
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"at":"Oslo"}')
    assert body["tools"][0]["name"] == "weather"
    tooling = on.pipeline.requests[0].tooling
    assert tooling is not None
    assert (tooling.choice, tooling.name, tooling.tools[0].strict) == (ToolChoice.NAMED, "weather", True)


async def test_a_stream_tells_each_item_as_it_grows_and_whole_at_its_end() -> None:
    found = events((await post(surface(script=SCRIPT), tools=[TOOL], stream=True)).text)
    text = ["response.content_part.added"]
    assert [one["type"] for one in found] == [
        "response.created", "response.in_progress",
        "response.output_item.added", *text, "response.reasoning_text.delta", "response.reasoning_text.done",
        "response.content_part.done", "response.output_item.done",
        "response.output_item.added", *text, "response.output_text.delta", "response.output_text.delta",
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.delta", "response.function_call_arguments.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    whole = found[-1]["response"]
    assert [one["item"] for one in found if one["type"] == "response.output_item.done"] == whole["output"]
    assert whole["usage"]["output_tokens"] == 5
    assert found[0]["response"]["output"] == []


async def test_a_history_of_items_becomes_turns() -> None:
    """What an assistant thought, said and called is one turn to a chat template."""
    on = surface()
    history = [
        {"role": "developer", "content": "S"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"role": "user", "content": "and?"},
    ]  # fmt: skip
    assert (await post(on, input=history)).status_code == 200
    system, user, assistant, result, last = on.pipeline.requests[0].messages
    assert (system.role, system.text, user.text, last.text) == ("system", "S", "look", "and?")
    assert (assistant.text, assistant.reasoning) == ("Looking.", "hm")
    assert assistant.tool_calls == (ToolCall(id="c1", name="weather", arguments="{}"),)
    assert (result.role, result.tool_call_id, result.text) == ("tool", "c1", "rain")


async def test_a_format_is_a_grammar_and_effort_reaches_the_template() -> None:
    on = surface()
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    body = (await post(on, text={"format": form}, reasoning={"effort": "low"})).json()
    assert body["text"]["format"] == form
    asked = on.pipeline.requests[0]
    assert asked.grammar is not None
    assert asked.grammar.kind is GrammarKind.JSON_SCHEMA
    assert json.loads(asked.template_arguments) == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": "yes"}, "store"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ],
)
async def test_what_cannot_be_done_is_a_400_that_names_it(change: dict[str, Any], param: str) -> None:
    reply = await post(surface(), **change)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_a_stream_that_breaks_off_ends_with_an_error_event() -> None:
    found = events((await post(surface(break_with=WorkerFailed("gone")), stream=True)).text)
    assert (found[-1]["type"], found[-1]["code"], found[-1]["message"]) == ("error", "worker_failed", "gone")
