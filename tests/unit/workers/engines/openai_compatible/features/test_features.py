"""Rule: what is asked goes to a server in its own words, and what it answers comes back as the contract has it."""

import json
from typing import Any

import pytest

from protos.contract.content import Image
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, EmbeddingInputs, Job, Sampling
from protos.contract.stream import FinishReason
from protos.contract.tools import Tool, ToolCall, ToolCallDelta, ToolChoice, Tooling
from workers.engines.openai_compatible.answers.chunks import MAX_CALLS, calls_of, parse_chunk, whole_answer
from workers.engines.openai_compatible.features.abilities import (
    abilities,
    from_llama_server,
    from_lm_studio,
    from_ollama,
)
from workers.engines.openai_compatible.features.embeddings import embedded, embedding_body
from workers.engines.openai_compatible.requests import Flavor, request_of

TOOL = Tool(name="weather", description="d", parameters='{"type": "object"}', strict=True)


def body(flavor: Flavor = Flavor.VLLM, **more: Any) -> dict[str, Any]:
    messages = more.pop("messages", (ChatMessage(role="user", content="hi"),))
    job = Job(request_id=RequestId("r"), attempt=1, model="m", quantization="q", messages=messages, **more)
    return request_of(job, model="m", flavor=flavor, room_tokens=100)[1]


def test_messages_with_images_calls_and_results_are_openais() -> None:
    messages = (
        ChatMessage(role="user", parts=("what?", Image(data=b"\x89PNG", media_type="image/png", detail="low"))),
        ChatMessage(
            role="assistant", tool_calls=(ToolCall(id="c1", name="look", arguments='{"a": 1}'),), reasoning="hm"
        ),
        ChatMessage(role="tool", content="a cat", tool_call_id="c1"),
    )
    said = body(messages=messages)["messages"]
    assert said[0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "low"}},
    ]
    assert said[1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    ]
    assert said[1]["reasoning_content"] == "hm"
    assert said[2] == {"role": "tool", "content": "a cat", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (ToolChoice.AUTO, None),
        (ToolChoice.NONE, "none"),
        (ToolChoice.REQUIRED, "required"),
        (ToolChoice.NAMED, {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_tools_and_their_choice_are_passed_on(choice: ToolChoice, said: Any) -> None:
    asked = body(tooling=Tooling(tools=(TOOL,), choice=choice, name="weather", single=True))
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert asked.get("tool_choice") == said
    assert asked["parallel_tool_calls"] is False


SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}, "strict": True}}}


@pytest.mark.parametrize(
    ("flavor", "grammar", "said"),
    [
        (Flavor.OLLAMA, Grammar(kind=GrammarKind.JSON_SCHEMA, text="{}"), SCHEMA),
        (Flavor.VLLM, Grammar(kind=GrammarKind.JSON_OBJECT), {"response_format": {"type": "json_object"}}),
        (Flavor.VLLM, Grammar(kind=GrammarKind.REGEX, text="a+"), {"structured_outputs": {"regex": "a+"}}),
        (
            Flavor.VLLM,
            Grammar(kind=GrammarKind.CHOICE, choices=("a", "b")),
            {"structured_outputs": {"choice": ["a", "b"]}},
        ),
        (Flavor.SGLANG, Grammar(kind=GrammarKind.REGEX, text="a+"), {"regex": "a+"}),
        (Flavor.LLAMA_SERVER, Grammar(kind=GrammarKind.GBNF, text="root ::= [a]"), {"grammar": "root ::= [a]"}),
    ],
)
def test_a_grammar_goes_in_the_field_that_the_server_has(
    flavor: Flavor, grammar: Grammar, said: dict[str, Any]
) -> None:
    assert grammar.kind in abilities(flavor, frozenset(), {}).grammars
    assert said.items() <= body(flavor, grammar=grammar).items()


def test_token_rules_go_to_servers_that_know_them() -> None:
    """OpenAI's to all, vLLM's to those that share them."""
    sampling = Sampling(logit_bias={5: -100.0}, min_tokens=3, stop_token_ids=(7,))
    assert {"logit_bias": {"5": -100.0}, "min_tokens": 3, "stop_token_ids": [7]}.items() <= body(
        sampling=sampling
    ).items()
    assert body(Flavor.OLLAMA, sampling=sampling).keys() & {"min_tokens", "stop_token_ids"} == set()


def event(delta: Any, finish: str | None = None) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def test_calls_come_in_pieces_or_whole() -> None:
    """vLLM streams arguments; Ollama and mlx-lm give a call at once, some with an object, or without an index."""
    head = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}]}
    assert parse_chunk(event(head)).tool_calls == (ToolCallDelta(index=0, id="c", name="look"),)
    rest = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}
    assert parse_chunk(event(rest)).tool_calls == (ToolCallDelta(index=0, arguments='{"a"'),)
    whole = {
        "tool_calls": [
            {"function": {"name": "a", "arguments": {"x": 1}}},
            {"function": {"name": "b", "arguments": "{}"}},
        ]
    }
    assert parse_chunk(event(whole, "tool_calls")) == parse_chunk(event(whole, "tool_calls"))
    assert [(one.index, one.name, one.arguments) for one in parse_chunk(event(whole)).tool_calls] == [
        (0, "a", '{"x": 1}'),
        (1, "b", "{}"),
    ]
    assert parse_chunk(event({}, "tool_calls")).finish_reason is FinishReason.TOOL_CALLS
    answer = {"choices": [{"message": {"content": None, **head}, "finish_reason": "tool_calls"}]}
    assert whole_answer(answer).tool_calls == (ToolCallDelta(index=0, id="c", name="look"),)


@pytest.mark.parametrize(
    "odd", [None, 3, "x", [None], [{"function": 3}], [{"index": -1, "function": {}}], [[]], {"a": 1}]
)
def test_what_is_no_call_says_nothing(odd: Any) -> None:
    """A server's fields are not believed."""
    assert calls_of(odd) == ()
    assert calls_of([{"index": 10**9, "function": {"name": "x"}}])[0].index < MAX_CALLS


def test_a_server_can_what_it_tells_and_its_owner_has_the_last_word() -> None:
    """Ollama and LM Studio tell; of an unknown server nothing is assumed."""
    ollama = abilities(Flavor.OLLAMA, from_ollama(["completion", "tools", "vision"]), {})
    assert (ollama.tools, ollama.vision, ollama.can_embed) == (True, True, False)
    vectors = abilities(Flavor.OLLAMA, from_ollama(["embedding"]), {})
    assert (vectors.can_embed, vectors.embeds_only, vectors.chat) == (True, True, False)
    studio = abilities(Flavor.LM_STUDIO, from_lm_studio({"type": "vlm", "capabilities": ["tool_use"]}), {})
    assert (studio.tools, studio.vision) == (True, True)
    server = from_llama_server({"modalities": {"vision": True}, "chat_template_caps": {"supports_tools": True}})
    assert server == {"vision", "tools"}
    assert from_llama_server({"chat_template_caps": None}) == frozenset()
    plain = abilities(Flavor.PLAIN, frozenset(), {})
    assert (plain.tools, plain.vision, plain.grammars, plain.can_embed) == (False, False, (), False)
    said = abilities(Flavor.PLAIN, frozenset(), {"tools": True, "embeddings": True, "structured_output": True})
    assert (said.tools, said.can_embed, bool(said.grammars)) == (True, True, True)
    assert abilities(Flavor.VLLM, frozenset(), {"tools": False}).tools is False


def test_vectors_come_in_the_order_of_the_inputs_at_unit_length() -> None:
    """Cut to the dimensions that were asked for; an answer that has not one for each is none."""
    asked = EmbeddingInputs(inputs=("a", (1, 2)), dimensions=2)
    assert embedding_body(asked, "m")["input"] == ["a", [1, 2]]
    data = [{"index": 1, "embedding": [0, 2, 9]}, {"index": 0, "embedding": [3, 4, 9]}]
    found = embedded({"data": data, "usage": {"prompt_tokens": 5}}, asked)
    assert found is not None
    assert (found.vectors, found.prompt_tokens) == (((0.6, 0.8), (0.0, 1.0)), 5)
    for odd in ({}, {"data": data[:1]}, {"data": [{"index": 0}, {"index": 1}]}, [], None):
        assert embedded(odd, asked) is None
