"""Calls written as tags, values as they are: Qwen3-Coder's, Seed-OSS', MiniMax' and GLM's. What a value is, a number or
a text, its tool's schema tells; where it tells nothing, what reads as JSON is JSON. Pure.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from protos.contract.tools import Tool
from workers.engines.tool_calls.whole import NoCall, Read

_FUNCTION = re.compile(r"<function=([^<>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^<>\s]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_INVOKE = re.compile(r'<invoke name="([^"]+)">(.*?)</invoke>', re.DOTALL)
_NAMED = re.compile(r'<parameter name="([^"]+)">(.*?)</parameter>', re.DOTALL)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)

Types = Mapping[str, Mapping[str, Any]]
"""Of each tool by its name: the schemas of its parameters."""


def types_of(tools: Iterable[Tool]) -> Types:
    """What their schemas say of each parameter; nothing of one that says it by reference."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        schema = json.loads(tool.parameters) if tool.parameters else {}
        properties = schema.get("properties") if isinstance(schema, dict) else None
        found[tool.name] = properties if isinstance(properties, dict) else {}
    return found


def functions(types: Types) -> Read:
    r"""``<function=NAME><parameter=KEY>\nVALUE\\n</parameter></function>``, as Qwen3-Coder and Seed-OSS write it.

    >>> functions({})('<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>')
    [('weather', {'city': 'Rome'})]
    """
    return lambda body: _calls(types, _FUNCTION.findall(body), _PARAMETER)


def invocations(types: Types) -> Read:
    """``<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>``, as MiniMax M2 writes it."""
    return lambda body: _calls(types, _INVOKE.findall(body), _NAMED)


def pairs(types: Types) -> Read:
    r"""``NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>``, with or without new lines, as GLM 4.5 writes it.

    >>> pairs({})('weather\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n')
    [('weather', {'days': 3})]
    """

    def read(body: str) -> list[tuple[str, dict[str, Any]]]:
        name, mark, rest = body.partition("<arg_key>")
        return _calls(types, [(name.strip(), mark + rest)], _PAIR)

    return read


def _calls(types: Types, found: list[tuple[str, str]], values: re.Pattern[str]) -> list[tuple[str, dict[str, Any]]]:
    calls = []
    for name, body in found:
        if not name or any(letter in name for letter in "<>{} \n\t"):
            raise NoCall("no name")
        if values.sub("", body).strip():
            raise NoCall("something else beside its values")
        known = types.get(name, {})
        calls.append((name, {key: value_of(text, known.get(key)) for key, text in values.findall(body)}))
    if not calls:
        raise NoCall("no call")
    return calls


def value_of(text: str, schema: Any) -> Any:
    r"""A value as its schema means it; one new line at each end is the tags'.

    >>> [value_of("\n3\n", {"type": "string"}), value_of("3", {"type": "integer"}), value_of("3 days", None)]
    ['3', 3, '3 days']
    """
    text = text.removeprefix("\n").removesuffix("\n")
    if _is_text(schema):
        return text
    for read in _READERS:
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return value if _as_json(value) else text
    return text


_READERS: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
"""JSON, or as Python writes the same: True, None, single quotes."""


def _as_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _is_text(schema: Any) -> bool:
    """Whether it may be nothing but text."""
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type")
    if kinds is not None:
        return bool(kinds == "string" or kinds == ["string"])
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return bool(choices) and all(isinstance(one, str) for one in choices)
