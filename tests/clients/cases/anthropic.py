"""Anthropic's official client."""

from anthropic import Anthropic

from tests.clients.table import MODEL

TOOL = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
HELLO = [{"role": "user", "content": "Say hello."}]


def _client(url: str) -> Anthropic:
    return Anthropic(base_url=url, api_key="none", max_retries=0, timeout=120)


def chat(url: str) -> None:
    """With a system prompt; the answer's blocks sent back as they came."""
    client = _client(url)
    first = client.messages.create(model=MODEL, max_tokens=12, system="Be brief.", messages=HELLO)
    assert first.content[0].type == "text"
    assert first.usage.output_tokens > 0
    history = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Again."}]
    assert client.messages.create(model=MODEL, max_tokens=8, messages=history).content


def stream(url: str) -> None:
    """Put together by the client's own accumulator."""
    with _client(url).messages.stream(model=MODEL, max_tokens=12, messages=HELLO) as events:
        said = "".join(events.text_stream)
        assert said
        assert events.get_final_message().content[0].text == said


def tools(url: str) -> None:
    """A call that must be, and its result sent back."""
    client = _client(url)
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    reply = client.messages.create(
        model=MODEL, max_tokens=60, messages=asked, tools=[TOOL], tool_choice={"type": "any"}
    )
    call = next(block for block in reply.content if block.type == "tool_use")
    assert set(call.input) == {"city"}
    assert reply.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    history = [*asked, {"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(
        model=MODEL, max_tokens=12, messages=history, tools=[TOOL], tool_choice={"type": "none"}
    ).content


def tools_stream(url: str) -> None:
    """In pieces of JSON."""
    with _client(url).messages.stream(
        model=MODEL, max_tokens=60, messages=HELLO, tools=[TOOL], tool_choice={"type": "tool", "name": "get_weather"}
    ) as events:
        final = events.get_final_message()
    assert set(next(block for block in final.content if block.type == "tool_use").input) == {"city"}


def count_tokens(url: str) -> None:
    """Exactly what a message is then charged."""
    client = _client(url)
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens
    usage = client.messages.create(model=MODEL, max_tokens=1, messages=HELLO).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def models(url: str) -> None:
    """Their list."""
    assert MODEL in {one.id for one in _client(url).models.list()}
