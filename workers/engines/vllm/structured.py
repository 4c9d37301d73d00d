"""Grammars as vLLM's guidance backend takes them."""

import json
from typing import Any

from protos.contract.grammar import Grammar, GrammarKind
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.source import gbnf_to_lark
from workers.engines.tool_calls.forced import styled

BACKEND = "guidance"
"""llguidance, as in llama.cpp: the same schemas can be kept to, and by the same rules."""

COMPACT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""The llguidance that vLLM 0.32.0 comes with (1.7.6) knows no bound on whitespace, in which a small model loses itself:
so there is a space after a comma and a colon, or none.
"""


def structured_fields(grammar: Grammar, compiler: GrammarCompiler) -> dict[str, Any]:
    """Fields of vLLM's StructuredOutputsParams. Raises BadGrammar."""
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return {"json": styled(compiler.schema(grammar.text), COMPACT)}
        case GrammarKind.JSON_OBJECT:
            return {"json": styled(json.dumps({"type": "object"}), COMPACT)}
        case GrammarKind.REGEX:
            return {"regex": grammar.text}
        case GrammarKind.CHOICE:
            return {"choice": list(grammar.choices)}
        case GrammarKind.LARK:
            return {"grammar": grammar.text}
        case GrammarKind.GBNF:
            return {"grammar": gbnf_to_lark(grammar.text)}
