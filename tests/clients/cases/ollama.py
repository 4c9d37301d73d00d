"""Ollama's official client."""

from ollama import Client

from tests.clients.table import MODEL, Cannot

HELLO = [{"role": "user", "content": "Say hello."}]
FEW = {"num_predict": 12, "temperature": 0}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}, "required": ["name"]}


def _client(url: str) -> Client:
    return Client(host=url, timeout=120)


def chat(url: str) -> None:
    """A conversation that goes on."""
    client = _client(url)
    first = client.chat(model=MODEL, messages=HELLO, options=FEW, keep_alive="5m")
    assert first.message.content
    assert first.eval_count
    again = client.chat(model=f"{MODEL}:latest", messages=[*HELLO, first.message, *HELLO], options=FEW)
    assert again.done


def stream(url: str) -> None:
    """Line by line."""
    parts = list(_client(url).chat(model=MODEL, messages=HELLO, options=FEW, stream=True))
    assert "".join(one.message.content or "" for one in parts)
    assert parts[-1].done_reason in ("stop", "length")


def completions(url: str) -> None:
    """Through the template and raw."""
    client = _client(url)
    assert client.generate(model=MODEL, prompt="Say hello.", options=FEW).response
    assert client.generate(model=MODEL, prompt="One, two,", raw=True, options=FEW).response


def embeddings(url: str) -> None:
    """Under both names."""
    client = _client(url)
    vectors = client.embed(model=MODEL, input=["a cat", "tax law"]).embeddings
    assert len(vectors) == 2
    assert len(client.embeddings(model=MODEL, prompt="a cat").embedding) == len(vectors[0])


def tools(url: str) -> None:
    """Offered; whether it calls is the model's choice, as this API has no other."""

    def get_weather(city: str) -> str:
        """Get the weather of a city.

        Args:
            city: its name
        """
        return f"sunny in {city}"

    reply = _client(url).chat(
        model=MODEL, messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[get_weather],
        options={"num_predict": 60, "temperature": 0},
    )  # fmt: skip
    if not reply.message.tool_calls:
        raise Cannot("the model chose not to call, and this API cannot force it")


def parse(url: str) -> None:
    """A schema as format."""
    import json

    reply = _client(url).chat(
        model=MODEL, messages=[{"role": "user", "content": "Ann is here."}], format=SCHEMA,
        options={"num_predict": 60, "temperature": 0},
    )  # fmt: skip
    assert set(json.loads(reply.message.content or "")) == {"name"}


def models(url: str) -> None:
    """Listed, shown, and said to run."""
    client = _client(url)
    assert MODEL in {one.model for one in client.list().models}
    assert client.show(MODEL).capabilities
    assert MODEL in {one.model for one in client.ps().models}
