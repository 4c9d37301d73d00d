"""Grammars as vLLM's guidance backend takes them."""

import json
from typing import Any

from protos.contract.grammar import Grammar, GrammarKind
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.source import gbnf_to_lark
from workers.engines.tool_calls.forced import styled

BACKEND = "guidance"
"""llguidance, as in llama.cpp: the same schemas can be kept to, and by the same rules."""


def structured_fields(grammar: Grammar, compiler: GrammarCompiler) -> dict[str, Any]:
    """Fields of vLLM's StructuredOutputsParams. Raises BadGrammar."""
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return {"json": styled(compiler.schema(grammar.text))}
        case GrammarKind.JSON_OBJECT:
            return {"json": styled(json.dumps({"type": "object"}))}
        case GrammarKind.REGEX:
            return {"regex": grammar.text}
        case GrammarKind.CHOICE:
            return {"choice": list(grammar.choices)}
        case GrammarKind.LARK:
            return {"grammar": grammar.text}
        case GrammarKind.GBNF:
            return {"grammar": gbnf_to_lark(grammar.text)}
