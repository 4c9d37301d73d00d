"""Rule: the simulated engine calls tools and keeps to schemas with the smallest that fits, wherever it goes on."""

import json
from typing import Any

import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, ContinueFrom, Job, Sampling
from protos.contract.stream import FinishReason
from protos.contract.tools import Tool, ToolChoice, Tooling
from workers.engines.base import Refused
from workers.engines.simulated.delivery import Speaker, speaker_for
from workers.engines.simulated.scripted import script_of, smallest

SCHEMA = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city", "days"],
    "$defs": {"name": {"type": "string"}},
}
WEATHER = Tool(name="weather", parameters=json.dumps(SCHEMA))


def job(said: str = "hello", **more: Any) -> Job:
    return Job(
        request_id=RequestId("r1"),
        attempt=1,
        model="m",
        quantization="q",
        messages=(ChatMessage(role="user", content=said),),
        **more,
    )


def speaker(one: Job) -> Speaker:
    return speaker_for(one, prompt_tokens=10, context_tokens=4096, mu=3.0, sigma=0.1, salt="")


def whole(one: Job) -> Any:
    mouth = speaker(one)
    return mouth.speak(mouth.sequence.output_tokens, mouth.reason)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (SCHEMA, {"city": "a", "days": 3}),
        ({"enum": ["x", "y"]}, "x"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["number", "null"]}, 0.0),
        ({"type": "array", "items": {"const": 7}, "minItems": 2}, [7, 7]),
    ],
)
def test_the_smallest_value_fits_its_schema(schema: dict[str, Any], value: Any) -> None:
    """Required properties, and nothing else."""
    assert smallest(schema, schema) == value


def test_a_schema_without_an_end_is_refused() -> None:
    """It requires itself."""
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    grammar = Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(endless))
    with pytest.raises(Refused, match="without an end"):
        script_of(job(grammar=grammar))


@pytest.mark.parametrize(
    ("said", "choice", "called"),
    [
        ("hello", ToolChoice.AUTO, False),
        ("the weather?", ToolChoice.AUTO, True),
        ("the weather?", ToolChoice.NONE, False),
        ("hello", ToolChoice.REQUIRED, True),
        ("hello", ToolChoice.NAMED, True),
    ],
)
def test_a_tool_is_called_when_it_must_be_or_is_named(said: str, choice: ToolChoice, called: bool) -> None:
    """Its arguments fit its schema, and the answer ends for that reason."""
    delta = whole(job(said, tooling=Tooling(tools=(WEATHER,), choice=choice, name="weather")))
    assert (delta.finish_reason is FinishReason.TOOL_CALLS) is called
    assert bool(delta.text) is not called
    if called:
        assert [one.name for one in delta.tool_calls if one.name] == ["weather"]
        assert json.loads("".join(one.arguments for one in delta.tool_calls)) == {"city": "a", "days": 3}


def test_a_call_goes_on_elsewhere_from_what_was_written() -> None:
    """Cut after any token, the pieces of both attempts make one call."""
    tooling = Tooling(tools=(WEATHER,), choice=ToolChoice.REQUIRED)
    complete = whole(job(tooling=tooling))
    for cut in range(1, complete.token_count):
        first = speaker(job(tooling=tooling)).speak(cut, None)
        assert first is not None
        rest = whole(job(tooling=tooling, continue_from=ContinueFrom(text=first.raw, output_tokens=cut)))
        assert first.raw + rest.raw == complete.raw
        assert (*first.tool_calls, *rest.tool_calls) == complete.tool_calls


def test_thoughts_stand_apart_when_the_template_is_told_to_have_them() -> None:
    """And what was written is both."""
    delta = whole(job(template_arguments='{"enable_thinking": true}'))
    assert delta.reasoning
    assert delta.raw == delta.reasoning + delta.text


def test_the_prompt_is_repeated_with_its_log_probabilities_and_nothing_more() -> None:
    """What evaluators ask: echo, and no tokens."""
    asked = Job(
        request_id=RequestId("r"),
        attempt=1,
        model="m",
        quantization="q",
        prompt="the amber fox",
        sampling=Sampling(echo=True, max_tokens=0, logprobs=True),
    )
    delta = whole(asked)
    assert (delta.echo, delta.text, delta.token_count) == ("the amber fox", "", 0)
    assert [one.token for one in delta.echo_logprobs] == [b"the", b" amber", b" fox"]
    assert delta.finish_reason is FinishReason.LENGTH
