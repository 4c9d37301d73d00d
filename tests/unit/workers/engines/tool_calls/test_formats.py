"""A template tells its family by the marks that it writes into a history, or shows to the model."""

import pytest

from protos.contract.tools import Tool
from workers.engines.tool_calls.formats import FORMATS, format_of
from workers.engines.tool_calls.pythonic import read_calls
from workers.engines.tool_calls.tagged import types_of, value_of
from workers.engines.tool_calls.whole import NoCall


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ('<tool_call>\n{"name": <function-name>}\n</tool_call>', "hermes"),
        ("<tool_call>\n<function=example>\n<parameter=p>\nv\n</parameter>\n</function>\n</tool_call>", "qwen3-coder"),
        ("<seed:tool_call>\n<function=x>", "seed"),
        ("<tool_call>{function-name}\n<arg_key>{key}</arg_key>", "glm"),
        ('<minimax:tool_call>\n<invoke name="tool">', "minimax"),
        ("<|tool_calls_section_begin|><|tool_call_begin|>", "kimi"),
        ("<|tool|>{{ tools }}<|/tool|>", "phi4"),
        ("<|tool_call_start|>[", "pythonic"),
        ("<function_calls>", "pythonic"),
        ("you should put it in the format of [func_name1(params_name1=params_value1)] <|eot_id|> tools", "pythonic"),
        ('<|python_tag|>{"name": "x", "parameters": {}}', "llama3"),
        ('<|header_start|> tools <|python_start|>{"name": "x", "parameters": {}}<|python_end|>', "llama3"),
        ("<|start|>assistant<|channel|>commentary to=functions.x<|message|>", "harmony"),
        ("[TOOL_CALLS]", "mistral"),
        ('<|tool_call|>[{"name": "x"}]', "granite"),
        ("<start_function_call>", "gemma"),
        ("{{ tools }}", "json"),
    ],
)
def test_a_template_speaks_for_its_family(template: str, form: str) -> None:
    assert format_of(template) is FORMATS[form]


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("3", {"type": "string"}, "3"),
        ("\n\n3\n", {"type": "string"}, "\n3"),
        ("true", {"enum": ["true", "false"]}, "true"),
        ("true", {"type": ["string", "boolean"]}, True),
        ("True", {"type": "boolean"}, True),
        ("None", {}, None),
        ("{'a': [1]}", {"type": "object"}, {"a": [1]}),
        ('{"a": ', {"type": "object"}, '{"a": '),
        ("{1, 2}", {"type": "array"}, "{1, 2}"),
        ("NaN", {"type": "number"}, "NaN"),
        ("(" * 500, None, "(" * 500),
    ],
)
def test_a_value_is_what_its_schema_says(text: str, schema: object, value: object) -> None:
    """Whatever is written, it can be told as JSON."""
    assert value_of(text, schema) == value


def test_schemas_that_tell_nothing_do_no_harm() -> None:
    odd = ('{"$ref": "#/x"}', '{"properties": []}', "true", "")
    assert types_of(Tool(name=f"t{at}", parameters=one) for at, one in enumerate(odd)) == {
        "t0": {}, "t1": {}, "t2": {}, "t3": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    ["", "[]", "[f(1)]", "[f(**x)]", "[f(a=g())]", "[f(a=b)]", "[f(a={1})]", "[f(a=1j)]", "[f(a={1: 2})]",
     "[f(a=b'x')]", "[f(a=1e999)]", "[x]", "[f(a=[" + "[" * 500, "f(a='" + "x" * 70_000 + "')"],
)  # fmt: skip
def test_python_that_is_no_call_with_literals_is_none(body: str) -> None:
    """Nothing is run, whatever is written."""
    with pytest.raises(NoCall):
        read_calls(body)
