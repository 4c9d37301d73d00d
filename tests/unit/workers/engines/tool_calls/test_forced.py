"""Rule: a call that must be is written in its family's way, and its arguments fit their schema."""

import json
from typing import Any

import numpy as np
import pytest

from protos.contract.tools import Tool, ToolChoice, Tooling
from tests.unit.workers.engines.grammar.bytes_table import END, compiler, tokens_of
from tests.unit.workers.engines.tool_calls.recordings import BEGIN, CALL, CALLED, SEP
from tests.unit.workers.engines.tool_calls.recordings import END as LAST
from workers.engines.tool_calls.forced import forced_form, forced_grammar, json_rule
from workers.engines.tool_calls.formats import FORMATS
from workers.engines.tool_calls.output import Channels

SCHEMA = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/c"}},
    "required": ["city"],
    "$defs": {"c": {"enum": ["Rome", "Bari"]}},
}
TOOLS = (Tool(name="weather", parameters=json.dumps(SCHEMA)), Tool(name="clock"))
ARGUMENTS = '{"city": "Rome"}'
WRITTEN = {
    "hermes": f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "json": f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama3": f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
    "mistral": f'[TOOL_CALLS][{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "granite": f'<|tool_call|>[{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "deepseek": f"{BEGIN}{CALL}function{SEP}weather\n```json\n{ARGUMENTS}\n```{CALLED}{LAST}",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
    f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>",
    "phi4": f'<|tool_call|>[{{"name": "weather", "arguments": {ARGUMENTS}}}]<|/tool_call|>',
}
WRITTEN |= {name: WRITTEN["hermes"] for name, form in FORMATS.items() if form.tag}  # whose own calls are no JSON


def grammar(form: str, choice: ToolChoice = ToolChoice.REQUIRED, **more: Any) -> Any:
    tooling = Tooling(tools=TOOLS, choice=choice, **more)
    return forced_grammar(FORMATS[form], tooling, lambda tool: tool.parameters or '{"type": "object"}', {})


def takes(form: str, text: str, **more: Any) -> bool:
    constraint = compiler().constraint(grammar(form, **more))
    return constraint.replay(tokens_of(text)) and constraint.may_end


@pytest.mark.parametrize("form", FORMATS)
def test_a_forced_call_is_what_its_parser_reads(form: str) -> None:
    """The grammar takes it, and nothing with other arguments, another tool or text before it."""
    written = WRITTEN[form]
    assert takes(form, written)
    for wrong in (written.replace("Rome", "Oslo"), written.replace("weather", "nobody"), f"Well. {written}", ""):
        assert not takes(form, wrong)
    tooling = Tooling(tools=TOOLS, choice=ToolChoice.REQUIRED)
    channels = Channels(form=forced_form(FORMATS[form]), tooling=tooling, thoughts=None, opened=False)
    told = channels.feed(written)
    assert [one.name for one in told.calls if one.name] == ["weather"]
    assert json.loads("".join(one.arguments for one in told.calls)) == {"city": "Rome"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_named_tool_is_called_once_and_no_other(form: str) -> None:
    constraint = compiler().constraint(grammar(form, ToolChoice.NAMED, name="weather"))
    assert constraint.replay(tokens_of(WRITTEN[form]))
    assert set(np.flatnonzero(constraint.mask())) == {END}
    other = WRITTEN[form].replace("weather", "clock").replace(ARGUMENTS, "{}")
    assert not takes(form, other, choice=ToolChoice.NAMED, name="weather")
    assert takes(form, other)


def test_several_calls_are_one_where_only_one_may_be() -> None:
    """parallel_tool_calls: false."""
    two = f"{WRITTEN['hermes']}\n{WRITTEN['hermes']}"
    assert takes("hermes", two)
    assert not takes("hermes", two, single=True)


def test_marks_that_are_control_tokens_stand_in_the_grammar_as_such() -> None:
    """Their text, letter by letter, would be something else to the model."""
    tooling = Tooling(tools=TOOLS, choice=ToolChoice.REQUIRED)
    text = forced_grammar(FORMATS["mistral"], tooling, lambda _: '{"type": "object"}', {"[TOOL_CALLS]": 5}).text
    assert '<[5]> "["' in text
    assert "TOOL_CALLS" not in text


def test_an_answer_as_json_may_come_instead_of_a_call() -> None:
    """response_format beside tools that may be called."""
    tooling = Tooling(tools=TOOLS)
    either = forced_grammar(
        FORMATS["hermes"], tooling, lambda _: json.dumps(SCHEMA), {}, json_rule('{"type": "integer"}')
    )
    for text in ("42", WRITTEN["hermes"]):
        constraint = compiler().constraint(either)
        assert constraint.replay(tokens_of(text))
        assert constraint.may_end
