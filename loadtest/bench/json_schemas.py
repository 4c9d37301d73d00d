"""JSON schemas of the kinds that real tools use, and any number of drawn ones; each can be kept to. Pure."""

import random
from typing import Any

Schema = dict[str, Any]

_NODE: Schema = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "minimum": 0, "maximum": 9},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
    },
    "required": ["value"],
}
_CAT: Schema = {
    "type": "object",
    "properties": {"kind": {"const": "cat"}, "lives": {"enum": [1, 9]}},
    "required": ["kind"],
}
_DOG: Schema = {
    "type": "object",
    "properties": {"kind": {"const": "dog"}, "tail": {"type": "boolean"}},
    "required": ["kind"],
}


def _object(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


REAL: dict[str, Schema] = {
    "nested": _object(a=_object(b=_object(c=_object(d={"type": "boolean"})))),
    "enums": _object(unit={"enum": ["c", "f"]}, level={"enum": [1, 2.5, None, "x"]}, fixed={"const": {"k": [1]}}),
    "formats": _object(
        day={"type": "string", "format": "date"},
        at={"type": "string", "format": "date-time"},
        id={"type": "string", "format": "uuid"},
        host={"type": "string", "format": "ipv4"},
        note={"type": "string", "format": "nobody-knows", "maxLength": 5},
    ),
    "one of": {"oneOf": [_CAT, _DOG]},
    "one of references": {
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        "$defs": {"cat": _CAT, "dog": _DOG},
    },
    "any of": _object(x={"anyOf": [{"type": "integer", "maximum": 99}, {"type": "null"}, {"enum": ["none"]}]}),
    "recursion": {"$ref": "#/$defs/node", "$defs": {"node": _NODE}},
    "long array": _object(bits={"type": "array", "items": {"enum": [0, 1]}, "minItems": 30, "maxItems": 40}),
    "array of objects": _object(
        rows={"type": "array", "items": _object(n={"type": "integer", "maximum": 9}), "maxItems": 3}
    ),
    "tuple": {"type": "array", "prefixItems": [{"enum": ["x"]}, {"type": "boolean"}], "items": False, "minItems": 2},
    "optional": {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": ["boolean", "null"]}}},
    "pattern": _object(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    "numbers": _object(
        n={"type": "integer", "minimum": -5, "exclusiveMaximum": 5}, x={"type": "number", "minimum": 0, "maximum": 1}
    ),
    "inheritance": {
        "allOf": [{"$ref": "#/$defs/base"}, _object(name={"enum": ["n"]})],
        "$defs": {"base": {"type": "object", "properties": {"id": {"enum": [1, 2]}}, "required": ["id"]}},
    },
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 0},
    "odd names": _object(
        **{'a "quoted" name': {"type": "boolean"}, "\u00fcber": {"type": "boolean"}, "": {"enum": [1]}}
    ),
    "notes": {
        "title": "t",
        "description": "d",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "boolean",
    },
    "root array": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 4},
    "root text": {"type": "string", "maxLength": 8},
    "function": _object(
        query={"type": "string", "maxLength": 12, "description": "what to look for"},
        filters={
            "type": "object",
            "properties": {"tags": {"type": "array", "items": {"enum": ["new", "old"]}, "maxItems": 2}},
            "additionalProperties": False,
        },
    ),
}


def drawn(count: int, seed: int = 1) -> list[Schema]:
    """Schemas of random shape; the same for the same seed."""
    dice = random.Random(seed)
    return [_any(dice, 3) for _ in range(count)]


def _any(dice: random.Random, depth: int) -> Schema:
    kinds = ["integer", "boolean", "enum", "string"] + (["object", "object", "array", "any"] if depth else [])
    match dice.choice(kinds):
        case "integer":
            low = dice.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + dice.randint(0, 99)}
        case "boolean":
            return {"type": dice.choice(["boolean", "null", ["boolean", "null"]])}
        case "enum":
            return {"enum": dice.sample(["red", "green", 1, 2.5, True, None, "a b", '"'], dice.randint(1, 4))}
        case "string":
            return {"type": "string", "minLength": dice.randint(0, 2), "maxLength": dice.randint(2, 10)}
        case "object":
            return _drawn_object(dice, depth)
        case "array":
            least = dice.randint(0, 2)
            return {"type": "array", "items": _any(dice, depth - 1), "minItems": least, "maxItems": least + 2}
        case _:
            return {"anyOf": [_any(dice, depth - 1), _any(dice, depth - 1)]}


def _drawn_object(dice: random.Random, depth: int) -> Schema:
    names = dice.sample(["id", "name", "size", "when", "tags"], dice.randint(1, 3))
    made: Schema = {"type": "object", "properties": {name: _any(dice, depth - 1) for name in names}}
    made["required"] = [name for name in names if dice.random() < 0.7]
    if dice.random() < 0.5:
        made["additionalProperties"] = False
    return made
