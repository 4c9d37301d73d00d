"""What a simulated engine says where words would not do: calls of tools, and answers that keep to a grammar. Pure.

Its calls and its JSON are the smallest that fit: a required property has a value of its type, an array as many items
as it must have. A tool is called when there must be a call, or when the last message is a user's and names the tool.
"""

import json
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import Job
from protos.contract.stream import RefusalCode
from protos.contract.tools import Tool, ToolCallDelta, ToolChoice
from workers.engines.base import Refused

OUTPUT_FORMAT = "simulated"
"""How its calls and thoughts are marked."""

GRAMMARS = (GrammarKind.JSON_SCHEMA, GrammarKind.JSON_OBJECT, GrammarKind.CHOICE)

PIECE = 4
"""Characters of one token."""

MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of such an answer: as the model wrote it, and what it says of a call."""

    raw: str
    call: ToolCallDelta | None = None


def script_of(job: Job) -> tuple[Piece, ...]:
    """The answer, token by token; empty where words will do. Raises Refused for a schema it cannot satisfy."""
    tool = _called(job)
    if tool is not None:
        return _call(job, tool)
    if job.grammar is None:
        return ()
    return tuple(Piece(part) for part in _parts(_fitting(job.grammar)))


def what_is_left(script: tuple[Piece, ...], sent: str) -> tuple[Piece, ...]:
    """The script after ``sent``, which may end within a token."""
    skipped = len(sent)
    for number, piece in enumerate(script):
        if skipped < len(piece.raw):
            return (_rest(piece, skipped), *script[number + 1 :])
        skipped -= len(piece.raw)
    return (Piece(""),)


def _rest(piece: Piece, skipped: int) -> Piece:
    if not skipped or piece.call is None:
        return Piece(piece.raw[skipped:], piece.call)
    if piece.call.name:  # its beginning was sent with the name
        return Piece(piece.raw[skipped:])
    return Piece(piece.raw[skipped:], structs.replace(piece.call, arguments=piece.call.arguments[skipped:]))


def _called(job: Job) -> Tool | None:
    tooling = job.tooling
    if tooling is None or tooling.choice is ToolChoice.NONE:
        return None
    if tooling.forced:
        return tooling.forced[0]
    last = job.messages[-1] if job.messages else None
    if last is None or last.role != "user" or tooling.choice is not ToolChoice.AUTO:
        return None
    return next((one for one in tooling.tools if one.name in last.text), None)


def _call(job: Job, tool: Tool) -> tuple[Piece, ...]:
    arguments = _fitting(Grammar(kind=GrammarKind.JSON_SCHEMA, text=tool.parameters)) if tool.parameters else "{}"
    head = ToolCallDelta(index=0, id=f"call_{job.request_id[-12:]}", name=tool.name)
    return (
        Piece(f'<call name="{tool.name}">', head),
        *(Piece(part, ToolCallDelta(index=0, arguments=part)) for part in _parts(arguments)),
        Piece("</call>"),
    )


def _parts(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)] or [""]


def _fitting(grammar: Grammar) -> str:
    if grammar.kind is GrammarKind.CHOICE:
        return grammar.choices[0] if grammar.choices else ""
    if grammar.kind is GrammarKind.JSON_OBJECT:
        return "{}"
    try:
        schema = json.loads(grammar.text)
        return json.dumps(smallest(schema, schema))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise Refused(RefusalCode.INVALID, f"the simulated engine cannot satisfy this schema: {error}") from None


def smallest(schema: Any, root: Any, depth: int = 0) -> Any:
    """A value that fits a JSON schema of common keywords. Raises ValueError for one without an end."""
    if depth > MAX_DEPTH:
        raise ValueError("it is nested without an end")
    if not isinstance(schema, dict):
        return {}
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        return smallest(target, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return smallest(schema[several][0], root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: Any, depth: int) -> Any:
    named = schema.get("type", "object" if "properties" in schema else "string")
    kind = named[0] if isinstance(named, list) else named
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: smallest(properties.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [smallest(schema.get("items", {}), root, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return "a" * schema.get("minLength", 1)
    least = schema.get("minimum", 0)
    return {"integer": int(least), "number": float(least), "boolean": False}.get(kind)
