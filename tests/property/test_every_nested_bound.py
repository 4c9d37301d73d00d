"""Every bound that a dialect's requests declare, however deep it stands: kept just within, refused by name just beyond.

The cases are made from the types, so that a new field with a bound is tried in every dialect that has it.
"""

import msgspec
import pytest

from router.errors import InvalidRequest
from router.http.dialects.anthropic.schema import CountRequest, MessagesRequest
from router.http.dialects.ollama.schema import (
    EmbeddingsRequest,
    EmbedRequest,
    GenerateRequest,
    OllamaChatRequest,
    ShowRequest,
)
from router.http.dialects.openai.embeddings import EmbeddingRequest
from router.http.dialects.openai.schema import ChatRequest, CompletionRequest
from router.http.dialects.responses.schema import Item, ResponsesRequest
from router.http.server.decoding import decode
from tests.support.schema_bounds import Case, cases_of

KINDS = (
    ChatRequest, CompletionRequest, EmbeddingRequest, CountRequest, MessagesRequest, OllamaChatRequest, GenerateRequest,
    EmbedRequest, EmbeddingsRequest, ShowRequest, ResponsesRequest, Item,
)  # fmt: skip
CASES = [(kind, case) for kind in KINDS for case in cases_of(kind)]


@pytest.mark.parametrize(("kind", "case"), CASES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_value_within_its_bound_is_taken_and_one_beyond_refused_by_its_name(
    kind: type[msgspec.Struct], case: Case
) -> None:
    decoder = msgspec.json.Decoder(kind)
    decode(decoder, msgspec.json.encode(case.within))
    with pytest.raises(InvalidRequest) as refused:
        decode(decoder, msgspec.json.encode(case.beyond))
    assert case.field in f"{refused.value.param} {refused.value.message}"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (MessagesRequest, "messages[].content[].source.url"),
        (MessagesRequest, "messages[].content[].content"),
        (MessagesRequest, "stop_sequences[]"),
        (MessagesRequest, "tools[].name"),
        (OllamaChatRequest, "options.temperature"),
        (ResponsesRequest, "text.format.name"),
        (ChatRequest, "messages[].tool_calls[].function.name"),
    ],
)
def test_the_deep_ones_are_among_them(kind: type[msgspec.Struct], path: str) -> None:
    """Else the walk has lost its way."""
    there = sorted({case.path for one, case in CASES if one is kind})
    assert path in there, there
