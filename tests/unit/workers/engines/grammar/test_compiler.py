"""Rule: what a grammar lets through fits it; why one cannot be compiled is told in a line; it is compiled once."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from protos.contract.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind
from tests.unit.workers.engines.grammar.bytes_table import END, compiler, table, tokens_of
from workers.engines.grammar.compiler import KEPT, GrammarCompiler
from workers.engines.grammar.source import BadGrammar


def schema(value: Any) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(value))


def takes(grammar: Grammar, text: str) -> bool:
    """Whether the whole text is an answer."""
    constraint = compiler().constraint(grammar)
    return constraint.replay(tokens_of(text)) and constraint.may_end


CAT = {"type": "object", "properties": {"kind": {"const": "cat", "default": "cat"}, "lives": {"type": "integer"}}}
DOG = {"type": "object", "properties": {"kind": {"const": "dog", "default": "dog"}, "name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (Grammar(kind=GrammarKind.REGEX, text="[a-c]{2,3}"), ["ab", "abc"], ["a", "abcd", "xy"]),
        (Grammar(kind=GrammarKind.CHOICE, choices=("yes", 'n"o')), ["yes", 'n"o'], ["ye", "no"]),
        (Grammar(kind=GrammarKind.JSON_OBJECT), ["{}", '{"a": [1, null]}'], ["[]", "1", '{"a": }']),
        (Grammar(kind=GrammarKind.LARK, text='start: "a" b\nb: /[0-9]+/'), ["a12"], ["a", "12"]),
        (Grammar(kind=GrammarKind.GBNF, text='root ::= "a" b\nb ::= [0-9]+'), ["a12"], ["a", "12"]),
        (schema({"type": "array", "items": {"type": "integer"}, "minItems": 2}), ["[1,2]", "[1, 2, 3]"], ["[1]"]),
        (schema({"type": "string", "format": "nobody-knows"}), ['"x"'], ["x"]),
        (schema({"type": "string", "format": "date"}), ['"2026-11-30"'], ['"2026-13-30"', '"x"']),
        (schema({"oneOf": [CAT, DOG]}), ['{"kind":"cat","lives":9}', '{"kind":"dog"}'], ['{"lives":9}']),
        (
            schema({"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "$defs": {"Cat": CAT, "Dog": DOG}}),
            ['{"kind":"cat","lives":9}'],
            ['{"kind":"cat","name":"x"}'],
        ),
    ],
)
def test_a_grammar_takes_what_fits_and_nothing_else(grammar: Grammar, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert takes(grammar, text), text
    for text in bad:
        assert not takes(grammar, text), text


BASE = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
NAMED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"allOf": [{"$ref": "#/$defs/Base"}, NAMED], "$defs": {"Base": BASE}}, '{"id":1,"name":"x"}'),
        ({**BASE, "anyOf": [NAMED, {"required": ["id"]}]}, '{"id":1,"name":"x"}'),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}, '{"b":1}'),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "minProperties": 2}, '{"a":1,"c":2}'),
        ({**BASE, "additionalProperties": {"type": "string"}}, '{"id":1,"more":"x"}'),
    ],
)
def test_objects_stay_open_where_more_is_said_of_them_elsewhere(asked: dict[str, Any], text: str) -> None:
    """Inheritance, alternatives beside properties, names that are required and not described."""
    assert jsonschema.Draft202012Validator(asked).is_valid(json.loads(text))
    assert takes(schema(asked), text)


def test_an_object_that_names_its_properties_has_no_others() -> None:
    """A model would go on inventing some."""
    assert takes(schema(BASE), '{"id": 1}')
    assert not takes(schema(BASE), '{"id": 1, "more": 2}')


def test_closed_alternatives_still_fit_the_schema_that_was_asked_for() -> None:
    """Less is let through than the schema would take, never more."""
    asked = {"oneOf": [CAT, DOG]}
    assert jsonschema.Draft202012Validator(asked).is_valid({"kind": "cat", "lives": 9})
    assert not jsonschema.Draft202012Validator(asked).is_valid({})  # both would do: so it is not let through
    assert not takes(schema(asked), "{}")


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        (schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (schema({"not": {"type": "string"}}), '"not"'),
        (schema({"oneOf": [{"type": "number"}, {"type": "integer"}]}), "oneOf"),
        (schema({"$ref": "http://127.0.0.1:9/schema"}), "127.0.0.1:9/schema"),
        (schema({"$ref": "#/$defs/missing"}), "missing"),
        (schema(False), "not"),
        (schema([1]), "an object, true or false"),
        (schema({"type": "string", "pattern": "(?=a)"}), "look-ahead"),
        (Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"type":'), "no JSON"),
        (Grammar(kind=GrammarKind.JSON_SCHEMA, text="[" * 100_000), "no JSON"),
        (Grammar(kind=GrammarKind.REGEX, text="["), "unclosed character class"),
        (Grammar(kind=GrammarKind.LARK, text="start: b"), 'unknown name: "b"'),
        (Grammar(kind=GrammarKind.GBNF, text="root = = ("), "GBNF"),
        (Grammar(kind=GrammarKind.CHOICE), "between 1 and"),
        (Grammar(kind=GrammarKind.REGEX, text="a" * (MAX_GRAMMAR_BYTES + 1)), "are the most"),
    ],
)
def test_what_cannot_be_compiled_says_why_in_a_line(grammar: Grammar, why: str) -> None:
    with pytest.raises(BadGrammar) as error:
        compiler().constraint(grammar)
    assert why in str(error.value)
    assert "\n" not in str(error.value)
    assert "coerce_one_of" not in str(error.value)


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(kind=GrammarKind.REGEX, text="(a{1,100}){1,100}b"),
        Grammar(kind=GrammarKind.REGEX, text="(((a*)*)*)*b"),
        schema({"type": "string", "pattern": "(a{1000}){1000}"}),
        schema({"enum": [f"value number {number}" for number in range(10_000)]}),
    ],
)
def test_a_hostile_grammar_costs_a_bounded_time_for_each_token(grammar: Grammar) -> None:
    """It is compiled, or refused; it goes on, or ends in an error that says that it is too complex."""
    try:
        constraint = compiler().constraint(grammar)
    except BadGrammar:
        return
    for _ in range(50):
        allowed = np.flatnonzero(constraint.mask())
        if constraint.error or not constraint.accept(int(allowed[-1])):
            assert constraint.error
            return
        if constraint.complete:
            return


def test_the_mask_has_what_may_come_and_the_end_once_it_may() -> None:
    """At first a digit, then a digit or the end."""
    constraint = compiler().constraint(Grammar(kind=GrammarKind.REGEX, text="[0-9]{1,2}"))
    digits = set(tokens_of("0123456789"))
    assert set(np.flatnonzero(constraint.mask())) == digits
    assert constraint.accept(tokens_of("7")[0])
    assert set(np.flatnonzero(constraint.mask())) == digits | {END}
    assert not constraint.complete
    assert constraint.accept(tokens_of("7")[0])
    assert constraint.complete


def test_an_answer_that_began_elsewhere_goes_on_in_the_same_state() -> None:
    """Its tokens may have been cut otherwise there: the bytes count."""
    whole, moved = (compiler().constraint(schema({"enum": ["left", "right"]})) for _ in range(2))
    for token in tokens_of('"ri'):
        assert whole.accept(token)
    assert moved.replay(tokens_of('"ri'))
    assert np.array_equal(whole.mask(), moved.mask())
    assert not compiler().constraint(schema({"enum": ["left"]})).replay(tokens_of('"ri'))


def test_a_token_that_does_not_fit_is_an_error_that_stays() -> None:
    """Told in one line."""
    constraint = compiler().constraint(Grammar(kind=GrammarKind.REGEX, text="a+"))
    assert not constraint.accept(tokens_of("b")[0])
    assert constraint.error
    assert "\n" not in constraint.error
    assert not constraint.complete


def test_the_same_grammar_is_compiled_once_and_few_are_kept() -> None:
    """And each answer has a state of its own."""
    made = GrammarCompiler(table)
    first, second = (made.constraint(Grammar(kind=GrammarKind.REGEX, text="ab")) for _ in range(2))
    assert first.accept(tokens_of("a")[0])
    assert second.accept(tokens_of("a")[0])
    for number in range(KEPT + 5):
        made.constraint(Grammar(kind=GrammarKind.REGEX, text=f"a{number}"))
    assert len(made._kept) == KEPT
