"""langchain-openai."""

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from tests.clients.table import MODEL


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


def _model(url: str, **more: object) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{url}/v1", api_key="none", model=MODEL, temperature=0, max_retries=0, timeout=120, **more
    )


def chat(url: str) -> None:
    """Invoked."""
    assert _model(url, max_tokens=12).invoke("Say hello.").content


def stream(url: str) -> None:
    """In pieces, with its usage."""
    parts = list(_model(url, max_tokens=12, stream_usage=True).stream("Say hello."))
    assert "".join(str(part.content) for part in parts)
    assert any(part.usage_metadata for part in parts)


def tools(url: str) -> None:
    """A call that must be."""
    bound = _model(url, max_tokens=80).bind_tools([Person], tool_choice="required")
    assert bound.invoke("Ann is 7.").tool_calls[0]["name"] == "Person"


def parse(url: str) -> None:
    """Over both of its methods."""
    for method in ("json_schema", "function_calling"):
        found = _model(url, max_tokens=80).with_structured_output(Person, method=method).invoke("Ann is 7.")
        assert isinstance(found, Person), method


def embeddings(url: str) -> None:
    """As token ids would be another model's, as texts."""
    embed = OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key="none", model=MODEL, check_embedding_ctx_length=False, max_retries=0
    )
    assert len(embed.embed_documents(["a cat", "tax law"])) == 2


def responses(url: str) -> None:
    """Over the Responses API."""
    assert _model(url, max_tokens=12, use_responses_api=True).invoke("Say hello.").content


def too_long(url: str) -> None:
    """Recognised for what it is."""
    from langchain_core.exceptions import ContextOverflowError

    with pytest.raises(ContextOverflowError):
        _model(url, max_tokens=1).invoke("word " * 30_000)
