"""openai-agents, over Responses and over chat."""

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from tests.clients.table import MODEL

set_tracing_disabled(disabled=True)


@function_tool(name_override="get_weather")
def _weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city[:20]}"


def _client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def chat(url: str) -> None:
    """Over chat."""
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=_client(url))
    agent = Agent(name="a", model=model, model_settings=ModelSettings(max_tokens=12))
    assert Runner.run_sync(agent, "Say hello.").final_output


def responses(url: str) -> None:
    """Over the Responses API."""
    model = OpenAIResponsesModel(model=MODEL, openai_client=_client(url))
    agent = Agent(name="a", instructions="Be brief.", model=model, model_settings=ModelSettings(max_tokens=12))
    assert Runner.run_sync(agent, "Say hello.").final_output


def tools(url: str) -> None:
    """It must call once, the tool is run, and its result is answered."""
    model = OpenAIResponsesModel(model=MODEL, openai_client=_client(url))
    settings = ModelSettings(max_tokens=60, tool_choice="required", temperature=0)
    agent = Agent(name="a", model=model, tools=[_weather], model_settings=settings)
    result = Runner.run_sync(agent, "What is the weather in Paris?", max_turns=3)
    assert any(item.type == "tool_call_output_item" for item in result.new_items)
