"""Answers as Anthropic's clients read them, whole and event by event."""

from typing import Any, Literal

import msgspec

from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall
from router.errors import AllsortsError
from router.http.dialects.shared.disclosure import Disclosure

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextBlock(msgspec.Struct, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """What is said."""

    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, kw_only=True, tag="thinking", tag_field="type"):
    """What was thought before; nobody signs it here."""

    thinking: str
    signature: str = ""


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use", tag_field="type"):
    """A call."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts; those read from a cache are no part of ``input_tokens``."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class MessageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/messages``."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None = None
    usage: UsageBody
    allsorts: Disclosure | None = None


class TokenCountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/messages/count_tokens``."""

    input_tokens: int


class MessageStart(msgspec.Struct, frozen=True, kw_only=True, tag="message_start", tag_field="type"):
    """The first event."""

    message: MessageAnswer


class BlockStart(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_start", tag_field="type"):
    """A block begins, empty."""

    index: int
    content_block: AnswerBlock


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag="text_delta", tag_field="type"):
    """More text."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, kw_only=True, tag="thinking_delta", tag_field="type"):
    """More thought."""

    thinking: str


class InputDelta(msgspec.Struct, frozen=True, kw_only=True, tag="input_json_delta", tag_field="type"):
    """More of a call's input, in pieces of JSON text."""

    partial_json: str


class BlockDelta(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_delta", tag_field="type"):
    """New output."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_stop", tag_field="type"):
    """A block is complete."""

    index: int


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why it ended."""

    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True, tag="message_delta", tag_field="type"):
    """The end, with the final counts."""

    delta: Ending
    usage: UsageBody
    allsorts: Disclosure | None = None


class MessageStop(msgspec.Struct, frozen=True, kw_only=True, tag="message_stop", tag_field="type"):
    """The last event."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error, and its event."""

    type: Literal["error"] = "error"
    error: ErrorDetail


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_answer(error: AllsortsError) -> AnthropicError:
    """In Anthropic's words for the kind."""
    kind = _ERROR_TYPES.get(error.http_status, "api_error")
    return AnthropicError(error=ErrorDetail(type=kind, message=error.message))


def usage_body(usage: Usage) -> UsageBody:
    """As Anthropic counts."""
    return UsageBody(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens,
    )


def stop_reason(reason: FinishReason, stopped_by: str, *, calls: bool) -> Ending:
    """``calls``: something was called, which a client that answers calls goes by."""
    if reason is FinishReason.LENGTH:
        return Ending(stop_reason="max_tokens")
    if reason is FinishReason.TOOL_CALLS or calls:
        return Ending(stop_reason="tool_use")
    return (
        Ending(stop_reason="stop_sequence", stop_sequence=stopped_by) if stopped_by else Ending(stop_reason="end_turn")
    )


def tool_use(call: ToolCall) -> ToolUseBlock:
    """Input that is no JSON object, as a model may write it, comes as text under a name of its own."""
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError:
        given = None
    if not isinstance(given, dict):
        given = {"_unreadable": call.arguments}
    return ToolUseBlock(id=call.id, name=call.name, input=given)
