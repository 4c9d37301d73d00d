"""Tools in plain words, for templates that know none: Hermes' marks, which many models have met."""

import json
from collections.abc import Sequence

from protos.contract.tools import Tool, ToolCall

_HEAD = "You can call these functions, each described by the JSON schema of its parameters:"
_TAIL = (
    "To call one, write\n<tool_call>\n"
    '{"name": "its name", "arguments": {its arguments}}\n</tool_call>\n'
    "and nothing else; the result will be told to you."
)


def description(tools: Sequence[Tool]) -> str:
    """What the tools are and how to call one."""
    lines = []
    for one in tools:
        told = {"name": one.name, "description": one.description, "parameters": json.loads(one.parameters or "{}")}
        lines.append(json.dumps(told, ensure_ascii=False))
    return "\n".join((_HEAD, *lines, _TAIL))


def call(made: ToolCall) -> str:
    """A call of an earlier answer."""
    return f'<tool_call>\n{{"name": {json.dumps(made.name)}, "arguments": {made.arguments or "{}"}}}\n</tool_call>'


def result(name: str, text: str) -> str:
    """What a call came to."""
    of = f' name="{name}"' if name else ""
    return f"<tool_response{of}>\n{text}\n</tool_response>"
