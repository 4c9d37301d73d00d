"""A response and its items, as OpenAI's clients read them."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from protos.contract.stream import TokenLogprob, Usage
from protos.contract.tools import ToolCall
from router.http.dialects.openai.logprobs import ChatToken, chat_logprobs
from router.http.dialects.shared.disclosure import Disclosure

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True, tag="output_text", tag_field="type"):
    """What is said."""

    text: str
    annotations: list[Any] = []
    logprobs: list[ChatToken] = []


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning_text", tag_field="type"):
    """What was thought."""

    text: str


class MessageItem(msgspec.Struct, frozen=True, kw_only=True, tag="message", tag_field="type"):
    """A message."""

    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning", tag_field="type"):
    """What was thought before."""

    id: str
    status: Status
    summary: list[Any] = []
    content: list[ReasoningText]


class CallItem(msgspec.Struct, frozen=True, kw_only=True, tag="function_call", tag_field="type"):
    """A call."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = MessageItem | ReasoningItem | CallItem


class InputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of the prompt."""

    cached_tokens: int


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of the output; thoughts are not counted apart."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Why it is not complete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/responses``. What the request said is repeated as it was given."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None = None
    reasoning: dict[str, Any]
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: None = None
    metadata: dict[str, Any] = {}
    allsorts: Disclosure | UnsetType = UNSET


def usage_body(usage: Usage) -> ResponseUsage:
    """As OpenAI counts."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def message_item(item_id: str, text: str, logprobs: tuple[TokenLogprob, ...], status: Status) -> MessageItem:
    """A message that is complete, or as far as it came."""
    said = OutputText(text=text, logprobs=chat_logprobs(logprobs).content if logprobs else [])
    return MessageItem(id=item_id, status=status, content=[said])


def call_item(item_id: str, call: ToolCall, status: Status) -> CallItem:
    """A call; where the model gave it no id, the item's counts."""
    return CallItem(
        id=item_id, status=status, call_id=call.id or item_id, name=call.name, arguments=call.arguments or "{}"
    )
