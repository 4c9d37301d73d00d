"""The families by name, and which of them a chat template speaks for."""

from collections.abc import Callable, Sequence

from protos.contract.tools import Tool
from workers.engines.tool_calls import gemma, tagged
from workers.engines.tool_calls.harmony import HarmonyParser
from workers.engines.tool_calls.marked import Format, MarkedParser
from workers.engines.tool_calls.parsed import OutputParser
from workers.engines.tool_calls.pythonic import PythonicParser
from workers.engines.tool_calls.thoughts import MARKS, ThoughtMarks
from workers.engines.tool_calls.whole import Read, WholeCallParser

HERMES = Format(name="hermes", starts=("<tool_call>",), ends=("</tool_call>",))
"""Hermes 2 and 3, Qwen 2.5 and 3, Granite 4, SmolLM 3: one JSON object between two marks."""

LLAMA3 = Format(name="llama3", starts=("<|python_tag|>", "<|python_start|>"), ends=("<|python_end|>",), bare=True)
"""Llama 3.1 and later, and 4 by its own template: JSON objects with ``parameters``, behind a mark or bare."""

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

KIMI = Format(
    name="kimi",
    starts=("<|tool_calls_section_begin|>",),
    ends=("<|tool_calls_section_end|>",),
    skips=("<|tool_call_begin|>", "<|tool_call_end|>"),
    named=True,
    numbered=True,
    parts=("<|tool_call_argument_begin|>",),
)
"""Kimi K2: ``functions.NAME:NUMBER``, which is the call's id as well, a mark, and JSON."""

PHI4 = Format(name="phi4", starts=("<|tool_call|>", "functools"), ends=("<|/tool_call|>",))
"""Phi-4-mini: a list of JSON objects behind a mark, or behind ``functools``."""

QWEN3_CODER = Format(
    name="qwen3-coder",
    starts=("<tool_call>", "<function="),
    ends=("</tool_call>", "</function>"),
    skips=("</tool_call>",),
    tag="functions",
)
"""Qwen3-Coder, Qwen 3.5: see ``tagged``; at times it leaves the first mark out."""

SEED = Format(name="seed", starts=("<seed:tool_call>",), ends=("</seed:tool_call>",), tag="functions")
"""Seed-OSS."""

MINIMAX = Format(name="minimax", starts=("<minimax:tool_call>",), ends=("</minimax:tool_call>",), tag="invocations")
"""MiniMax M2."""

GLM = Format(name="glm", starts=("<tool_call>",), ends=("</tool_call>",), tag="pairs")
"""GLM 4.5 to 4.7."""

PYTHONIC = Format(
    name="pythonic",
    starts=("<|tool_call_start|>", "<function_calls>", "<|python_start|>"),
    ends=("<|tool_call_end|>", "</function_calls>", "<|python_end|>"),
    tag="pythonic",
)
"""LFM 2, Olmo 3, and Llama 3.2 and 4 by templates that ask for it: calls as Python, see ``pythonic``."""

HARMONY = Format(
    name="harmony",
    starts=("<|channel|>",),
    ends=("<|end|>", "<|call|>", "<|return|>"),
    skips=("<|start|>", "<|message|>", "<|constrain|>"),
    channels=True,
    tag="harmony",
)
"""gpt-oss: see ``harmony``."""

JSON = Format(name="json", starts=HERMES.starts, ends=HERMES.ends, bare=True)
"""Templates that know no tools: a system message describes them (``templates.generic``), and what a model makes of that
is a JSON object, between Hermes' marks as it is told, or bare.
"""

FORMATS = {
    one.name: one
    for one in (
        HERMES, LLAMA3, MISTRAL, DEEPSEEK, GRANITE, GEMMA, KIMI, PHI4, QWEN3_CODER, SEED, MINIMAX, GLM, PYTHONIC,
        HARMONY, JSON,
    )
}  # fmt: skip

_TOLD_BY = {
    "<|channel|>": HARMONY,
    "<function=": QWEN3_CODER,
    "<arg_key>": GLM,
    "<|/tool|>": PHI4,
    "<|/tool_call|>": PHI4,
    "[func_name1(": PYTHONIC,
}
"""What tells families apart whose first mark others have too, or which have none in their templates."""


def format_of(template: str) -> Format:
    """The family whose marks a template writes into a history; JSON for one without any."""
    if any(mark in template for mark in SEED.starts):
        return SEED
    for mark, form in _TOLD_BY.items():
        if mark in template:
            return form
    for form in (MISTRAL, DEEPSEEK, KIMI, GRANITE, GEMMA, MINIMAX, PYTHONIC, HERMES):
        if any(mark in template for mark in form.starts if mark not in LLAMA3.starts):
            return form
    if any(mark in template for mark in LLAMA3.starts) or (
        ("<|eot_id|>" in template or "<|header_start|>" in template) and "tools" in template
    ):
        return LLAMA3
    return JSON


def marks_of_thoughts(template: str) -> ThoughtMarks | None:
    """The marks around thoughts that a template knows."""
    return next((one for one in MARKS if one.close in template), None)


def make_parser(form: Format, tools: Sequence[Tool], make_id: Callable[[], str]) -> OutputParser:
    """A parser for one answer."""
    known = frozenset(one.name for one in tools)
    if form.tag == "harmony":
        return HarmonyParser(form, known, make_id)
    if form.tag == "pythonic":
        return PythonicParser(form, known, make_id)
    if form.tag:
        return WholeCallParser(form, _reading(form.tag, tools), make_id)
    return MarkedParser(form, known, make_id)


def _reading(tag: str, tools: Sequence[Tool]) -> Read:
    if tag == "gemma":
        return lambda body: [gemma.read_call(body)]
    readers = {"functions": tagged.functions, "invocations": tagged.invocations, "pairs": tagged.pairs}
    return readers[tag](tagged.types_of(tools))
