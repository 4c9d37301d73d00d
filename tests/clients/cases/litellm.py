"""LiteLLM as a library: its OpenAI, Anthropic and Ollama routes."""

import json

import litellm
import pytest

from tests.clients.cases.openai import TOOL
from tests.clients.table import MODEL

HELLO = [{"role": "user", "content": "Say hello."}]


def chat(url: str) -> None:
    """Over each of the routes."""
    for model, base in ((f"openai/{MODEL}", f"{url}/v1"), (f"anthropic/{MODEL}", url), (f"ollama_chat/{MODEL}", url)):
        reply = litellm.completion(model=model, api_base=base, api_key="none", messages=HELLO, max_tokens=12)
        assert reply.choices[0].message.content, model


def stream(url: str) -> None:
    """Over each of the routes."""
    for model, base in ((f"openai/{MODEL}", f"{url}/v1"), (f"anthropic/{MODEL}", url), (f"ollama_chat/{MODEL}", url)):
        parts = litellm.completion(
            model=model, api_base=base, api_key="none", messages=HELLO, max_tokens=12, stream=True
        )
        assert "".join(part.choices[0].delta.content or "" for part in parts), model


def completions(url: str) -> None:
    """A text to go on with."""
    reply = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", api_base=f"{url}/v1", api_key="none", prompt="One, two,", max_tokens=4
    )
    assert reply.choices[0].text


def embeddings(url: str) -> None:
    """Two of them."""
    reply = litellm.embedding(model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", input=["a", "b"])
    assert len(reply.data) == 2


def tools(url: str) -> None:
    """A call that must be."""
    reply = litellm.completion(
        model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", messages=HELLO, tools=[TOOL],
        tool_choice="required", max_tokens=60,
    )  # fmt: skip
    assert set(json.loads(reply.choices[0].message.tool_calls[0].function.arguments)) == {"city"}


def responses(url: str) -> None:
    """Stateless."""
    reply = litellm.responses(
        model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", input="Say hello.", max_output_tokens=12
    )
    assert reply.output


def too_long(url: str) -> None:
    """Recognised for what it is."""
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", max_tokens=1,
            messages=[{"role": "user", "content": "word " * 30_000}],
        )  # fmt: skip
