"""Calls that must be, as a grammar: in the family's own marks, with arguments that fit their schemas. Pure."""

import json
from collections.abc import Callable, Mapping

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.tools import Tool, Tooling
from workers.engines.tool_calls.formats import DEEPSEEK, GRANITE, HERMES, KIMI, LLAMA3, MISTRAL, PHI4
from workers.engines.tool_calls.marked import Format

MOST_CALLS = 8
"""In one answer that must call."""

STYLE = {"whitespace_pattern": r"(\x20|\x0A[\x20\x09]{0,16})?"}


def forced_form(form: Format) -> Format:
    """How a call that must be is written: where a family's calls are no JSON, as Hermes writes them."""
    return HERMES if form.tag else form


def forced_grammar(
    form: Format,
    tooling: Tooling,
    schema_of: Callable[[Tool], str],
    control: Mapping[str, int],
    answer: str = "",
    style: Mapping[str, object] = STYLE,
) -> Grammar:
    """``schema_of``: JSON text of a tool's parameters; ``control``: marks that are one control token, and its id.
    ``answer``: a rule's body that would do instead of calls; empty: there must be a call. ``style``: of the JSON.
    """
    tools = tooling.forced or tooling.tools
    most = 1 if tooling.single or len(tooling.forced) == 1 else MOST_CALLS
    before, between, after = _around(form, control)
    rules = [f"calls: {before} call{f' ({between} call){{0,{most - 1}}}' if most > 1 else ''} {after}".rstrip()]
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(tools))))
    for number, tool in enumerate(tools):
        head, tail = _call(form, tool.name, control)
        rules.append(f"call_{number}: {head} arguments_{number} {tail}".rstrip())
        rules.append(f"arguments_{number}: {json_rule(schema_of(tool), style)}")
    start = "start: calls | answer" if answer else "start: calls"
    return Grammar(kind=GrammarKind.LARK, text="\n".join([start, *([f"answer: {answer}"] if answer else []), *rules]))


def json_rule(schema: str, style: Mapping[str, object] = STYLE) -> str:
    """A rule's body for a JSON schema."""
    return f"%json {styled(schema, style)}"


def _around(form: Format, control: Mapping[str, int]) -> tuple[str, str, str]:
    """What stands before the first call, between two, and after the last."""
    if form is LLAMA3:
        return "", _text("; "), ""
    if form in (MISTRAL, GRANITE):
        return f"{_mark(form.starts[0], control)} {_text('[')}", _text(", "), _text("]")
    if form is PHI4:
        start, end = _mark(form.starts[0], control), _mark(form.ends[0], control)
        return f"{start} {_text('[')}", _text(", "), f"{_text(']')} {end}"
    if form in (DEEPSEEK, KIMI):
        between = _text("\n") if form is DEEPSEEK else ""
        return _mark(form.starts[0], control), between, _mark(form.ends[0], control)
    return "", _text("\n"), ""


def _call(form: Format, name: str, control: Mapping[str, int]) -> tuple[str, str]:
    """What stands before a call's arguments, and after them."""
    if form is DEEPSEEK:
        begin, end, function, _ = form.skips
        head = f"{_mark(begin, control)} {_text('function')} {_mark(function.removeprefix('function'), control)}"
        return (
            f"{head} {_text(name + chr(10) + '```json' + chr(10))}",
            f"{_text(chr(10) + '```')} {_mark(end, control)}",
        )
    if form is KIMI:
        begin, end, part = (_mark(one, control) for one in (*form.skips, *form.parts))
        return f"{begin} {_text(f'functions.{name}:')} /[0-9]{{1,3}}/ {part}", end
    key = "parameters" if form is LLAMA3 else "arguments"
    head, tail = f'{{"name": {json.dumps(name)}, "{key}": ', "}"
    if form in (LLAMA3, MISTRAL, GRANITE, PHI4):
        return _text(head), _text(tail)
    start, end = (_mark(one, control) for one in (HERMES.starts[0], HERMES.ends[0]))
    return f"{start} {_text(chr(10) + head)}", f"{_text(tail + chr(10))} {end}"


def _mark(text: str, control: Mapping[str, int]) -> str:
    return f"<[{control[text]}]>" if text in control else _text(text)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def styled(schema: str, style: Mapping[str, object] = STYLE) -> str:
    """A schema that says how JSON is written, for where it stands inside something else."""
    return json.dumps({"x-guidance": dict(style), **json.loads(schema)})
