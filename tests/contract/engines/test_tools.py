"""What every engine keeps that declares tools: calls that must be fit their schemas, and go on elsewhere."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from protos.contract.request import ChatMessage, ContinueFrom, Sampling
from protos.contract.stream import FinishReason
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling
from tests.contract.engines.rigs import GREEDY, Rig, Run, ended_well
from workers.engines.tool_calls.formats import FORMATS
from workers.engines.tool_calls.output import Channels

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"$ref": "#/$defs/unit"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"unit": {"enum": ["celsius", "fahrenheit"]}},
}
CLOCK = {"type": "object", "properties": {"zone": {"enum": ["utc", "cet"]}}, "required": ["zone"]}
SCHEMAS: dict[str, Any] = {"weather": WEATHER, "clock": CLOCK}
TOOLS = tuple(Tool(name=name, description=name, parameters=json.dumps(one)) for name, one in SCHEMAS.items())
HEAD = 40
"""Characters after which a call's name has been told."""

LONG = replace(GREEDY, max_tokens=160)


def needs_tools(rig: Rig) -> None:
    if not rig.loaded.capabilities.tools:
        pytest.skip("declares no tools")


def calls_of(*runs: Run) -> list[tuple[str, Any]]:
    """Names and arguments, put together from all the pieces."""
    pieces = [call for run in runs for delta in run.deltas for call in delta.tool_calls]
    found = []
    for index in sorted({one.index for one in pieces}):
        mine = [one for one in pieces if one.index == index]
        (name,) = [one.name for one in mine if one.name]
        assert [one.id for one in mine if one.id], "a call has an id"
        found.append((name, json.loads("".join(one.arguments for one in mine))))
    return found


@pytest.mark.parametrize("choice", [ToolChoice.REQUIRED, ToolChoice.NAMED])
async def test_calls_that_must_be_fit_their_schemas(rig: Rig, choice: ToolChoice) -> None:
    """Drawn at temperature 1; the finish reason says that there are calls, and no text comes with them."""
    needs_tools(rig)
    tooling = Tooling(tools=TOOLS, choice=choice, name="clock", single=True)
    asked = [
        rig.chat("How warm is it?", tooling=tooling, sampling=Sampling(temperature=1.0, max_tokens=160, seed=seed))
        for seed in range(6)
    ]
    for run in await asyncio.gather(*(rig.run(one) for one in asked)):
        assert run.final.finish_reason is FinishReason.TOOL_CALLS, run.text
        assert run.text == ""
        ((name, arguments),) = calls_of(run)
        assert choice is ToolChoice.REQUIRED or name == "clock"
        jsonschema.validate(arguments, SCHEMAS[name])


async def test_a_chat_with_tools_may_be_answered_in_words(rig: Rig) -> None:
    """Tools, calls and results in the history, and none called: it is an answer like any other."""
    needs_tools(rig)
    history = (
        ChatMessage(role="system", content="You are brief."),
        ChatMessage(role="user", content="How warm is it in Rome?"),
        ChatMessage(
            role="assistant",
            tool_calls=(ToolCall(id="call_1", name="weather", arguments='{"city": "Rome", "days": 1}'),),
        ),
        ChatMessage(role="tool", content='{"celsius": 31}', tool_call_id="call_1"),
    )
    job = replace(rig.chat(tooling=Tooling(tools=TOOLS)), messages=history)
    run = await rig.run(job)
    assert ended_well(run) or run.final.finish_reason is FinishReason.TOOL_CALLS
    assert run.text or calls_of(run)
    none = await rig.run(replace(rig.chat(tooling=Tooling(tools=TOOLS, choice=ToolChoice.NONE)), messages=history))
    assert ended_well(none)
    assert none.text


async def test_a_call_goes_on_in_the_middle_from_what_the_model_wrote(rig: Rig) -> None:
    """Wherever it was cut the pieces of both attempts make one call that fits."""
    needs_tools(rig)
    if rig.name not in ("llama.cpp", "simulated"):
        pytest.skip("cannot go on within a call")
    tooling = Tooling(tools=TOOLS, choice=ToolChoice.NAMED, name="weather")
    whole = await rig.run(rig.chat("Rome?", tooling=tooling, sampling=LONG))
    raw = "".join(delta.raw or delta.text for delta in whole.deltas)
    assert whole.final.finish_reason is FinishReason.TOOL_CALLS
    for cut in range(1, len(raw), max(1, len(raw) // 5)):
        resume = ContinueFrom(text=raw[:cut], output_tokens=cut)
        rest = await rig.run(rig.chat("Rome?", tooling=tooling, sampling=LONG, continue_from=resume))
        assert rest.final.finish_reason is FinishReason.TOOL_CALLS
        assert not [one.name for delta in rest.deltas for one in delta.tool_calls if one.name and cut > HEAD]
        written = raw[:cut] + "".join(delta.raw or delta.text for delta in rest.deltas)
        if rig.name != "simulated":  # whose calls are written in a way of its own
            told = Channels(form=FORMATS["json"], tooling=tooling, thoughts=None, opened=False).feed(written)
            jsonschema.validate(json.loads("".join(one.arguments for one in told.calls)), WEATHER)
