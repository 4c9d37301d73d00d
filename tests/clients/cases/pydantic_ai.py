"""pydantic-ai, over OpenAI's chat, its Responses and Anthropic's messages."""

from anthropic import AsyncAnthropic
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.table import MODEL, Cannot

FEW = {"max_tokens": 12}


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


def _provider(url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=f"{url}/v1", api_key="none")


def chat(url: str) -> None:
    """Over chat."""
    assert Agent(OpenAIChatModel(MODEL, provider=_provider(url))).run_sync("Say hello.", model_settings=FEW).output


def messages(url: str) -> None:
    """Over Anthropic's messages."""
    client = AsyncAnthropic(base_url=url, api_key="none", max_retries=0)
    spoken = AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client))
    try:
        assert Agent(spoken).run_sync("Say hello.", model_settings=FEW).output
    except TypeError as error:
        if "typing.Union" not in str(error):
            raise
        raise Cannot("this pydantic-ai breaks on this anthropic package before it sends anything") from error


def parse(url: str) -> None:
    """Kept to a schema."""
    agent = Agent(OpenAIChatModel(MODEL, provider=_provider(url)), output_type=NativeOutput(Person))
    assert isinstance(agent.run_sync("Ann is 7.", model_settings={"max_tokens": 80}).output, Person)


def tools(url: str) -> None:
    """Its output is a call that must be."""
    agent = Agent(OpenAIChatModel(MODEL, provider=_provider(url)), output_type=Person)
    assert isinstance(agent.run_sync("Ann is 7.", model_settings={"max_tokens": 80}).output, Person)


def responses(url: str) -> None:
    """Over the Responses API."""
    agent = Agent(OpenAIResponsesModel(MODEL, provider=_provider(url)))
    assert agent.run_sync("Say hello.", model_settings=FEW).output
