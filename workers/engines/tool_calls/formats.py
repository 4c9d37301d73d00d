"""The families by name, and which of them a chat template speaks for."""

from collections.abc import Callable

from workers.engines.tool_calls.gemma import GemmaParser
from workers.engines.tool_calls.marked import Format, MarkedParser
from workers.engines.tool_calls.parsed import OutputParser
from workers.engines.tool_calls.thoughts import MARKS, ThoughtMarks

HERMES = Format(name="hermes", starts=("<tool_call>",), ends=("</tool_call>",))
"""Hermes 2 and 3, Qwen 2.5 and 3, Granite 4, SmolLM 3: one JSON object between two marks."""

LLAMA3 = Format(name="llama3", starts=("<|python_tag|>",), bare=True)
"""Llama 3.1 and later: JSON objects with ``parameters``, behind a mark or bare."""

MISTRAL = Format(name="mistral", starts=("[TOOL_CALLS]",), named=True, parts=("[CALL_ID]", "[ARGS]"))
"""A list of JSON objects behind one mark, or for each call the mark, a name and its arguments."""


def deepseek_mark(words: str) -> str:
    """DeepSeek's marks have bars and spaces of their own."""
    return f"<\uff5c{words}\uff5c>".replace(" ", "\u2581")


DEEPSEEK = Format(
    name="deepseek",
    starts=(deepseek_mark("tool calls begin"),),
    ends=(deepseek_mark("tool calls end"),),
    skips=(
        deepseek_mark("tool call begin"),
        deepseek_mark("tool call end"),
        f"function{deepseek_mark('tool sep')}",
        "```",
    ),
    named=True,
    parts=(deepseek_mark("tool sep"), "\n"),
)
"""V3, R1 (a name, and JSON in a fence) and V3.1 (a name, a mark, and JSON)."""

GRANITE = Format(name="granite", starts=("<|tool_call|>",))
"""Granite 3: a list of JSON objects behind one mark."""

GEMMA = Format(
    name="gemma",
    starts=("<start_function_call>", "<|tool_call>"),
    ends=("<end_function_call>", "<tool_call|>"),
    tag="gemma",
)
"""FunctionGemma and Gemma 4: no JSON, see ``gemma``."""

JSON = Format(name="json", starts=HERMES.starts, ends=HERMES.ends, bare=True)
"""Templates that know no tools: a system message describes them (``templates.generic``), and what a model makes of that
is a JSON object, between Hermes' marks as it is told, or bare.
"""

FORMATS = {one.name: one for one in (HERMES, LLAMA3, MISTRAL, DEEPSEEK, GRANITE, GEMMA, JSON)}


def format_of(template: str) -> Format:
    """The family whose marks a template writes into a history; JSON for one without any."""
    for form in (MISTRAL, DEEPSEEK, GRANITE, GEMMA, HERMES):
        if any(mark in template for mark in form.starts):
            return form
    if "<|python_tag|>" in template or ("<|eot_id|>" in template and "tools" in template):
        return LLAMA3
    return JSON


def marks_of_thoughts(template: str) -> ThoughtMarks | None:
    """The marks around thoughts that a template knows."""
    return next((one for one in MARKS if one.close in template), None)


def make_parser(form: Format, known: frozenset[str], make_id: Callable[[], str]) -> OutputParser:
    """A parser for one answer."""
    if form.tag == "gemma":
        return GemmaParser(form, known, make_id)
    return MarkedParser(form, known, make_id)
