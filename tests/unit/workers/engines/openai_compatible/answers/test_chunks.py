"""Chunks of streams as servers really send them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.stream import FinishReason, Usage
from tests.support.foreign_server import COUNTED, STOP, USAGE, chunk
from workers.engines.openai_compatible.answers.chunks import Chunk, parse_chunk, usage_of, whole_answer


def parsed(event: Any) -> Chunk:
    return parse_chunk(json.dumps(event).encode())


def test_a_plain_chunk_is_its_text() -> None:
    assert parsed(chunk({"content": "Two"})) == Chunk(text="Two")
    assert parsed({"choices": [{"text": " plus"}]}) == Chunk(text=" plus")
    assert parsed(STOP) == Chunk(finish_reason=FinishReason.STOP)
    assert parsed(chunk(finish="length")) == Chunk(finish_reason=FinishReason.LENGTH)
    assert parsed(COUNTED) == Chunk(usage=Usage(prompt_tokens=9, completion_tokens=4))


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Four"}],
        [{"type": "text", "text": "Fo"}, {"type": "text", "text": "ur"}],
        ["Fo", "ur"],
        {"type": "text", "text": "Four"},
        [{"type": "image"}, {"text": "Four"}, None, 7],
    ],
)
def test_a_text_in_parts_is_the_text(content: Any) -> None:
    """Some servers send content as their documents say requests have it."""
    assert parsed(chunk({"content": content})) == Chunk(text="Four")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_what_is_thought_is_kept_apart_from_the_answer(name: str) -> None:
    """Ollama's and vLLM's name, and DeepSeek's."""
    assert parsed(chunk({"content": "", name: "Let me"})) == Chunk(reasoning="Let me")
    assert parsed(chunk({"content": None, name: "Let me"})) == Chunk(reasoning="Let me")
    assert parsed(chunk({"content": "Four", name: None})) == Chunk(text="Four")


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [None]},
        {"choices": None},
        {"choices": "none"},
        {"choices": {}},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": 7}}]},
        {"choices": [[]]},
        {"choices": [], "prompt_filter_results": []},
        {"choices": [{"finish_reason": ""}]},
        {"choices": [{"finish_reason": 0}]},
        {"choices": [{"logprobs": []}]},
        {"choices": [{"logprobs": {"content": [None, 1]}}]},
        {"choices": [], "usage": None},
        {"choices": [], "usage": "none"},
        {"error": None, "choices": []},
        {},
    ],
)
def test_a_field_of_another_type_says_nothing(event: Any) -> None:
    assert parsed(event) == Chunk()


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({**USAGE, "prompt_tokens_details": [{"cached_tokens": 3}]}, (9, 4, 0)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 3}}, (9, 4, 3)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": "3"}}, (9, 4, 3)),
        ({"prompt_tokens": "9.0", "completion_tokens": "4"}, (9, 4, 0)),
        ({"prompt_tokens": None, "completion_tokens": [4]}, (0, 0, 0)),
        ({"prompt_tokens": -9, "completion_tokens": 10**400}, (0, 0, 0)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (0, 0, 0)),
        ({"prompt_tokens": "many"}, (0, 0, 0)),
    ],
)
def test_counts_are_numbers_of_tokens_or_zero(usage: Any, counts: tuple[int, int, int]) -> None:
    found = usage_of(usage)
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"error": {"message": "CUDA out of\\n memory"}}', "CUDA out of memory"),
        (b'{"error": "boom"}', "boom"),
        (b'{"error": {"code": 500}, "choices": [null]}', '{"code": 500}'),
        (b'{"message": "boom"}', "boom"),
        (b'{"detail": "boom"}', "boom"),
        (b"<html>", "no JSON: '<html>'"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "no chunk: '[1]'"),
        (b'"text"', "no chunk"),
    ],
)
def test_what_is_no_chunk_is_an_error_in_one_line(data: bytes, says: str) -> None:
    assert says in parse_chunk(data).error
    assert "\n" not in parse_chunk(data).error


def test_an_answer_in_one_piece_is_an_answer() -> None:
    """From servers that do not stream."""
    message = {"role": "assistant", "content": "Four", "reasoning": "Two and two"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}], "usage": USAGE}
    found = whole_answer(body)
    assert (found.text, found.reasoning, found.finish_reason) == ("Four", "Two and two", FinishReason.LENGTH)
    assert found.usage == Usage(prompt_tokens=9, completion_tokens=4)
    assert whole_answer({"choices": [{"text": "Four"}]}).finish_reason is FinishReason.STOP
    for none in ({"detail": "not here"}, {"choices": []}, {"choices": [None]}, [], None, 7):
        assert whole_answer(none).error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("content", "reasoning", "reasoning_content", "text", "bytes", "logprob", "token", "top_logprobs", "id")
DELTAS = st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON
LOGPROBS = st.fixed_dictionaries({}, optional={"content": st.lists(DELTAS), "tokens": JSON, "token_logprobs": JSON})
CHOICES = st.lists(
    st.fixed_dictionaries({}, optional={"delta": DELTAS, "text": JSON, "finish_reason": JSON, "logprobs": LOGPROBS})
    | JSON,
    max_size=2,
)
EVENTS = st.fixed_dictionaries({}, optional={"choices": CHOICES | JSON, "usage": DELTAS, "error": JSON}) | JSON


@given(EVENTS)
def test_no_event_raises_and_every_text_can_be_sent_on(event: Any) -> None:
    """Whatever types its fields have."""
    for found in (parsed(event), whole_answer(event)):
        for text in (found.text, found.reasoning, found.error):
            text.encode()
        assert all(isinstance(one.token, bytes) and one.logprob == one.logprob for one in found.logprobs)
        assert found.usage is None or found.usage.completion_tokens >= 0


@given(st.binary(max_size=64))
def test_no_bytes_raise(data: bytes) -> None:
    parse_chunk(data)
