"""Whatever the schema, an answer that ends by itself validates: drawn schemas, and the kinds that real tools use."""

import asyncio
import json
import os
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loadtest.bench.json_schemas import REAL
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import Sampling
from protos.contract.stream import FinishReason
from tests.contract.engines.rigs import Rig, Run

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1500)]

DRAWN = int(os.environ.get("DRAWN_SCHEMAS", "24"))
"""With 280 it takes three minutes and a half on vLLM, as long in llama.cpp: `DRAWN_SCHEMAS=280 make test-vllm`."""

NOT_OURS = {
    "simulated": "draws nothing",
    "openai": "llama-server refuses some schemas, and leaves a number's bounds out of others",
}
"""Engines whose answers are somebody else's, and why that matters here."""

scalars = st.one_of(
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-99, 99),
        st.integers(0, 99),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 9),
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}, {"type": "string", "format": "date"}]
    ),
    st.lists(st.sampled_from(["a", "b c", '"', 1, 2.5, True, None]), min_size=1, max_size=4).map(
        lambda some: {"enum": some}
    ),
)


def larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["id", "name", "size", "tags", "\u00fc"])
    return st.one_of(
        st.builds(
            lambda fields, needed, closed: {
                "type": "object",
                "properties": fields,
                "required": [name for name in fields if name in needed],
                **({"additionalProperties": False} if closed else {}),
            },
            st.dictionaries(names, inner, min_size=1, max_size=3),
            st.sets(names),
            st.booleans(),
        ),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least, "maxItems": least + 2},
            inner,
            st.integers(0, 2),
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some}),
    )


def drawn(count: int) -> list[dict[str, Any]]:
    """Schemas as Hypothesis draws them, the same in every run."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.recursive(scalars, larger, max_leaves=6))
    def draw(one: dict[str, Any]) -> None:
        found.append(one)

    draw()
    return found


async def test_every_answer_that_ends_validates(rig: Rig) -> None:
    """At temperature 1, streamed, many together; nearly all end within their tokens."""
    if GrammarKind.JSON_SCHEMA not in rig.loaded.capabilities.grammars or rig.name in NOT_OURS:
        pytest.skip(NOT_OURS.get(rig.name, "keeps to no schema"))
    schemas = [*REAL.values(), *drawn(DRAWN)]

    async def answer(number: int, schema: dict[str, Any]) -> tuple[dict[str, Any], Run]:
        grammar = Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(schema))
        sampling = Sampling(temperature=1.0, seed=number, max_tokens=200)
        run = await rig.submit(rig.chat("Answer in JSON.", grammar=grammar, sampling=sampling))
        return schema, await run.end(within_s=600.0)

    ended = 0
    for start in range(0, len(schemas), 8):
        part = schemas[start : start + 8]
        for schema, run in await asyncio.gather(*(answer(start + at, one) for at, one in enumerate(part))):
            if run.final.finish_reason is FinishReason.STOP:
                ended += 1
                jsonschema.Draft202012Validator(schema).validate(json.loads(run.text))
    assert ended >= 0.9 * len(schemas)
