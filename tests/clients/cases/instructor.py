"""instructor, over schemas and over tools."""

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.clients.table import MODEL


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


def _found(url: str, mode: instructor.Mode) -> Person:
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120), mode=mode)
    return client.chat.completions.create(
        model=MODEL, response_model=Person, max_retries=0, max_tokens=80, temperature=0,
        messages=[{"role": "user", "content": "Ann is 7 years old."}],
    )  # fmt: skip


def parse(url: str) -> None:
    """Kept to a schema."""
    assert isinstance(_found(url, instructor.Mode.JSON_SCHEMA), Person)


def tools(url: str) -> None:
    """As the arguments of a tool that is named."""
    assert isinstance(_found(url, instructor.Mode.TOOLS), Person)
