"""What an answer must be like, from the words of any dialect. Schemas travel as JSON text; engines compile them."""

from typing import Any

import msgspec

from protos.contract.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind
from router.errors import InvalidRequest

MAX_CHOICES = 4096


def schema_grammar(schema: dict[str, Any] | str, *, param: str) -> Grammar:
    """A JSON schema, as an object or as its text. An empty one means any object. Raises InvalidRequest."""
    if isinstance(schema, str):
        try:
            decoded = msgspec.json.decode(schema)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidRequest(f"'{param}' is no JSON", param=param) from None
        if not isinstance(decoded, dict):
            raise InvalidRequest(f"'{param}' is no JSON schema: expected an object", param=param)
        schema = decoded
    if not schema:
        return Grammar(kind=GrammarKind.JSON_OBJECT)
    return within_bounds(Grammar(kind=GrammarKind.JSON_SCHEMA, text=msgspec.json.encode(schema).decode()), param=param)


def regex_grammar(pattern: str, *, param: str) -> Grammar:
    """Raises InvalidRequest."""
    if not pattern:
        raise InvalidRequest(f"'{param}' is empty", param=param)
    return within_bounds(Grammar(kind=GrammarKind.REGEX, text=pattern), param=param)


def choice_grammar(choices: list[str], *, param: str) -> Grammar:
    """One of these texts. Raises InvalidRequest."""
    if not choices or "" in choices or len(choices) > MAX_CHOICES:
        raise InvalidRequest(f"'{param}' needs 1 to {MAX_CHOICES} texts, none of them empty", param=param)
    return within_bounds(Grammar(kind=GrammarKind.CHOICE, choices=tuple(dict.fromkeys(choices))), param=param)


def written_grammar(text: str, *, param: str) -> Grammar:
    """Lark, or llama.cpp's GBNF, which writes ``::=`` where Lark writes a colon. Raises InvalidRequest."""
    if not text.strip():
        raise InvalidRequest(f"'{param}' is empty", param=param)
    kind = GrammarKind.GBNF if "::=" in text else GrammarKind.LARK
    return within_bounds(Grammar(kind=kind, text=text), param=param)


def within_bounds(grammar: Grammar, *, param: str) -> Grammar:
    """Raises InvalidRequest for one that is too large."""
    if grammar.size_bytes > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"'{param}' is larger than {MAX_GRAMMAR_BYTES} bytes", param=param)
    return grammar
