"""Grammars in each server's own fields."""

import json
from typing import Any

from protos.contract.grammar import Grammar, GrammarKind


def grammar_body(grammar: Grammar, *, structured_outputs: bool, plain_fields: bool) -> dict[str, Any]:
    """``structured_outputs``: the server has vLLM's field of that name; ``plain_fields``: SGLang's, one for each kind.

    Raises ValueError for a schema that is no JSON.
    """
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            schema = {"name": "answer", "schema": json.loads(grammar.text), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case GrammarKind.JSON_OBJECT:
            return {"response_format": {"type": "json_object"}}
        case GrammarKind.GBNF:
            return {"grammar": grammar.text}
        case GrammarKind.CHOICE:
            told: dict[str, Any] = {"choice": list(grammar.choices)}
        case GrammarKind.REGEX:
            told = {"regex": grammar.text}
        case GrammarKind.LARK:
            told = {"grammar": grammar.text}
    if structured_outputs:
        return {"structured_outputs": told}
    return told if plain_fields else {}
