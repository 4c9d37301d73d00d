"""From a grammar of the contract to the text that llguidance compiles. Pure.

A JSON schema is rewritten only where that can do no harm: formats that nobody knows are notes to people and left out;
objects that name their properties have no others, which a model would invent without end (as xgrammar does it); where
alternatives (``oneOf``) might fit together, those whose value is fixed must be there, so that they cannot. Every answer
that fits what is compiled fits the schema that was asked for.
"""

import json
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from protos.contract.grammar import Grammar, GrammarKind

KNOWN_FORMATS = frozenset(
    "date-time date time duration email hostname ipv4 ipv6 uuid uri".split()  # noqa: SIM905 - a row reads better
)
"""That llguidance enforces."""

JSON_STYLE = {"whitespace_pattern": r"(\x20|\x0A[\x20\x09]{0,16})?"}
"""Whitespace between parts of a JSON text, as its printers write it: a space, or a line's end and an indent. A model
that may put more there gets lost in it.
"""

MAX_CHOICES = 4096

WHOLE_GRAMMARS = (GrammarKind.LARK, GrammarKind.GBNF)


class BadGrammar(ValueError):
    """Why it cannot be kept to, in one line."""


def sources_of(grammar: Grammar) -> list[str]:
    """What may be compiled for it; the second, where there is one, if the first cannot be. Raises BadGrammar."""
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return _of_schema(grammar.text)
        case GrammarKind.JSON_OBJECT:
            return [LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=JSON_STYLE)]  # type: ignore[arg-type]
        case GrammarKind.REGEX:
            return [LLMatcher.grammar_from_regex(grammar.text)]
        case GrammarKind.CHOICE:
            return [_of_choices(grammar.choices)]
        case GrammarKind.LARK:
            return [LLMatcher.grammar_from_lark(grammar.text)]
        case GrammarKind.GBNF:
            return [LLMatcher.grammar_from_lark(gbnf_to_lark(grammar.text))]


def _of_schema(text: str) -> list[str]:
    return [LLMatcher.grammar_from_json_schema(json.dumps(one), overrides=JSON_STYLE) for one in variants_of(text)]  # type: ignore[arg-type]


def variants_of(text: str) -> list[Any]:
    """A JSON schema as it is best compiled, and what to try where it cannot be. Raises BadGrammar."""
    try:
        schema = json.loads(text)
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            raise BadGrammar("a JSON schema is an object, true or false")
        return _variants(_map_schemas(schema, _drop_unknown_format))
    except BadGrammar:
        raise
    except (ValueError, RecursionError) as error:
        raise BadGrammar(f"it is no JSON: {error}") from None


def _of_choices(choices: tuple[str, ...]) -> str:
    if not 0 < len(choices) <= MAX_CHOICES or not all(choices):
        raise BadGrammar(f"a choice has between 1 and {MAX_CHOICES} texts, none of them empty")
    return LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(one) for one in choices))


def gbnf_to_lark(text: str) -> str:
    """The same grammar in Lark. Raises BadGrammar."""
    try:
        return str(any_to_lark(text))
    except (GbnfToLarkError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise BadGrammar(f"the GBNF cannot be read: {_line(error)}") from None


def _variants(schema: dict[str, Any]) -> list[Any]:
    """The schema as it is best compiled, and what to try where it cannot be."""
    # what an allOf joins must stay open to what it is joined with, wherever it is defined
    closed = schema if '"allOf"' in json.dumps(schema) else _map_schemas(schema, _closed, _joined)
    found = []
    for one in (closed, _told_apart(closed), schema, _told_apart(schema)):
        if one not in found:
            found.append(one)
    return found


def _drop_unknown_format(schema: dict[str, Any]) -> dict[str, Any]:
    if "format" in schema and schema["format"] not in KNOWN_FORMATS:
        return {key: value for key, value in schema.items() if key != "format"}
    return schema


def _told_apart(schema: Any) -> Any:
    return _map_schemas(schema, lambda inner: _close_alternatives(inner, schema))


def _close_alternatives(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """Of objects that are told apart by the properties they have, each may have its own alone, and must have those
    whose value is fixed.
    """
    if "oneOf" not in schema or "properties" in schema or not isinstance(schema["oneOf"], list):
        return schema
    return {**schema, "oneOf": [_with_fixed(_closed(_target(one, root))) for one in schema["oneOf"]]}


def _target(one: Any, root: Any) -> Any:
    """What a reference within the schema stands for; anything else as it is."""
    if not isinstance(one, dict) or not str(one.get("$ref", "")).startswith("#/"):
        return one
    found = root
    for step in one["$ref"][2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return {**found, **{key: value for key, value in one.items() if key != "$ref"}} if isinstance(found, dict) else one


_OPEN = {"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties"}
"""Beside any of these an object's properties are not all that it may have."""


def _closed(one: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get("properties"), dict) or one.keys() & _OPEN:
        return one
    named = one["properties"].keys()
    if not named or set(one.get("required", ())) - named or one.get("minProperties", 0) > len(named):
        return one
    return {"additionalProperties": False, **one}


def _joined(schema: dict[str, Any]) -> tuple[str, ...]:
    """Keys under which stands more about the same object."""
    return ("anyOf", "oneOf", "if", "then", "else", "not") if "properties" in schema else ()


def _with_fixed(one: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get("properties"), dict):
        return one
    fixed = [name for name, inner in one["properties"].items() if isinstance(inner, dict) and _is_fixed(inner)]
    required = list(dict.fromkeys([*one.get("required", ()), *fixed]))
    return {**one, "required": required}


def _is_fixed(schema: dict[str, Any]) -> bool:
    return "const" in schema or (isinstance(schema.get("enum"), list) and len(schema["enum"]) == 1)


_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OF_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


Change = Callable[[dict[str, Any]], Any]


def _map_schemas(schema: Any, change: Change, apart: Callable[[dict[str, Any]], tuple[str, ...]] | None = None) -> Any:
    """``change`` applied to every schema inside, the outermost last, but not to those under the keys that ``apart``
    names; texts that are values are left alone.
    """
    if not isinstance(schema, dict):
        return schema
    out, skipped = dict(schema), apart(schema) if apart is not None else ()
    for key in _OF_NAMES:
        if isinstance(out.get(key), dict):
            out[key] = {name: _map_schemas(one, change, apart) for name, one in out[key].items()}
    for key in _OF_LISTS:
        if key not in skipped and isinstance(out.get(key), list):
            out[key] = [_map_schemas(one, change, apart) for one in out[key]]
    for key in _OF_ONE:
        if key in skipped:
            continue
        if isinstance(out.get(key), list):
            out[key] = [_map_schemas(one, change, apart) for one in out[key]]
        elif key in out:
            out[key] = _map_schemas(out[key], change, apart)
    return change(out)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
