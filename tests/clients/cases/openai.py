"""The official client, as its README uses it."""

import json
import math

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field

from tests.clients.table import MODEL, refuse_if_unable

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
HELLO = [{"role": "user", "content": "Say hello."}]


class Person(BaseModel):
    """What is parsed."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


def _client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def chat(url: str) -> None:
    """A conversation that goes on, its answers sent back as they came."""
    client = _client(url)
    first = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert first.choices[0].message.content
    history = [*HELLO, first.choices[0].message, {"role": "user", "content": "And again."}]
    second = client.chat.completions.create(model=MODEL, messages=history, max_tokens=8)
    assert second.usage is not None
    assert second.usage.completion_tokens <= 8


def stream(url: str) -> None:
    """With its usage."""
    chunks = list(
        _client(url).chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def completions(url: str) -> None:
    """Several prompts at once."""
    client = _client(url)
    several = client.completions.create(model=MODEL, prompt=["One, two,", "The sky is"], max_tokens=4)
    assert [one.index for one in several.choices] == [0, 1]


def echo(url: str) -> None:
    """Nothing but the prompt, with its log-probabilities."""
    try:
        echoed = _client(url).completions.create(model=MODEL, prompt="The sky is", max_tokens=0, echo=True, logprobs=1)
    except BadRequestError as error:
        refuse_if_unable(str(error))
        raise
    assert echoed.choices[0].text == "The sky is"
    assert echoed.choices[0].logprobs is not None
    assert len(echoed.choices[0].logprobs.token_logprobs or []) >= 3


def choices(url: str) -> None:
    """Several answers to one question."""
    answer = _client(url).chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4, n=3, seed=1)
    assert len(answer.choices) == 3


def embeddings(url: str) -> None:
    """Which the client asks for in base64."""
    reply = _client(url).embeddings.create(model=MODEL, input=["a cat", "a kitten", "tax law"])
    vectors = [one.embedding for one in reply.data]
    assert len(vectors) == 3
    assert math.isclose(sum(value * value for value in vectors[0]), 1.0, rel_tol=1e-3)


def tools(url: str) -> None:
    """A call that must be, and its result sent back."""
    client = _client(url)
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    reply = client.chat.completions.create(
        model=MODEL, messages=asked, tools=[TOOL], tool_choice="required", max_tokens=60, temperature=0
    )
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    history = [*asked, reply.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    last = client.chat.completions.create(
        model=MODEL, messages=history, tools=[TOOL], tool_choice="none", max_tokens=12
    )
    assert last.choices[0].message.content


def tools_stream(url: str) -> None:
    """Put together by the client's own accumulator."""
    with _client(url).chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[TOOL],
        tool_choice="required",
        max_tokens=60,
    ) as events:
        names = {event.name for event in events if event.type == "tool_calls.function.arguments.done"}
        assert names == {"get_weather"}
        assert json.loads(events.get_final_completion().choices[0].message.tool_calls[0].function.arguments)


def parse(url: str) -> None:
    """Structured output."""
    reply = _client(url).chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Ann is 7."}], response_format=Person, max_tokens=60,
        temperature=0,
    )  # fmt: skip
    assert isinstance(reply.choices[0].message.parsed, Person)


def responses(url: str) -> None:
    """The whole conversation sent each time."""
    client = _client(url)
    reply = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=12)
    assert reply.output_text
    assert reply.usage is not None
    again = [{"role": "user", "content": "hi"}, *reply.output, {"role": "user", "content": "again"}]
    assert client.responses.create(model=MODEL, input=again, max_output_tokens=4).output_text


def responses_kept(url: str) -> None:
    """Gone on from by its id, read again, erased."""
    client = _client(url)
    first = client.responses.create(model=MODEL, input="My name is Ann.", max_output_tokens=8)
    second = client.responses.create(model=MODEL, input="Who am I?", previous_response_id=first.id, max_output_tokens=8)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert len(client.responses.input_items.list(second.id).data) == 3
    client.responses.delete(first.id)
    try:
        client.responses.retrieve(first.id)
    except NotFoundError:
        return
    raise AssertionError("it is still there")


def responses_stream(url: str) -> None:
    """Event by event, to its end."""
    with _client(url).responses.stream(
        model=MODEL, input="Ann is 7.", max_output_tokens=80, text_format=Person
    ) as events:
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert said == events.get_final_response().output_text


def responses_tools(url: str) -> None:
    """A call that must be."""
    tool = {"type": "function", **TOOL["function"], "strict": True}
    reply = _client(url).responses.create(
        model=MODEL, input="What is the weather in Paris?", tools=[tool], tool_choice="required", max_output_tokens=60
    )
    call = next(one for one in reply.output if one.type == "function_call")
    assert set(json.loads(call.arguments)) == {"city"}


def models(url: str) -> None:
    """Their list."""
    assert MODEL in {one.id for one in _client(url).models.list()}


def too_long(url: str) -> None:
    """A prompt beyond the context is told so that clients cut it."""
    with pytest.raises(BadRequestError) as error:
        _client(url).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 30_000}], max_tokens=1
        )
    assert error.value.code == "context_length_exceeded"
