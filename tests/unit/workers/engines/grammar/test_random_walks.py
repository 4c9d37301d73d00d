"""Rule: whatever is drawn from the masks of a schema validates once it may end, however unlikely a model's draw."""

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from loadtest.bench.json_schemas import REAL, drawn
from protos.contract.grammar import Grammar, GrammarKind
from tests.unit.workers.engines.grammar.bytes_table import END, compiler
from workers.engines.grammar.compiler import GrammarCompiler

LONGEST = 1500
CLOSING = [byte + 1 for byte in b'"]},']
"""Ends of texts, arrays and objects: taken half the time, or a walk would hardly come to its end."""


@pytest.fixture(scope="module")
def compiled() -> GrammarCompiler:
    return compiler()


def walk(made: GrammarCompiler, schema: Any, dice: random.Random) -> str | None:
    """A text of tokens that the masks allow, drawn evenly; None for one that came to no end."""
    constraint = made.constraint(Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(schema)))
    written = bytearray()
    for _ in range(LONGEST):
        allowed = np.flatnonzero(constraint.mask()).tolist()
        if END in allowed:
            return written.decode()
        closing = [token for token in CLOSING if token in allowed]
        token = dice.choice(closing if closing and dice.random() < 0.5 else allowed)
        written.append(token - 1)
        assert constraint.accept(token), (bytes(written), constraint.error)
        if constraint.complete:
            return written.decode()
    return None


@pytest.mark.parametrize("kind", REAL)
def test_every_walk_through_a_real_kind_validates(kind: str, compiled: GrammarCompiler) -> None:
    """Ten walks each."""
    schema, dice = REAL[kind], random.Random(kind)
    for _ in range(10):
        text = walk(compiled, schema, dice)
        if text is not None:
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))


def test_every_walk_through_three_hundred_drawn_schemas_validates(compiled: GrammarCompiler) -> None:
    """Nearly all come to their end."""
    dice, ended = random.Random(7), 0
    schemas = drawn(300, seed=7)
    for schema in schemas:
        text = walk(compiled, schema, dice)
        if text is not None:
            ended += 1
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert ended >= 0.95 * len(schemas)
