"""Answers as OpenAI's clients read them: encoded from these types, of which the OpenAPI document is made."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall, ToolCallDelta
from router.http.dialects.openai.logprobs import ChatLogprobs, CompletionLogprobs
from router.http.dialects.shared.disclosure import Disclosure

Finish = Literal["stop", "length", "tool_calls"]


class CachedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Of a prompt, how much was in a cache."""

    cached_tokens: int


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts as the workers counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class FunctionBody(msgspec.Struct, frozen=True, kw_only=True):
    """A called function; arguments are JSON text."""

    name: str
    arguments: str


class ToolCallBody(msgspec.Struct, frozen=True, kw_only=True):
    """A call."""

    id: str
    function: FunctionBody
    type: Literal["function"] = "function"


class MessageBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallBody] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int
    message: MessageBody
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    allsorts: Disclosure


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/completions``."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody
    allsorts: Disclosure


class FunctionPiece(msgspec.Struct, frozen=True, kw_only=True):
    """The name comes once; arguments are pieces of JSON text."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a call; id and type come with its name."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionPiece


class MessagePiece(msgspec.Struct, frozen=True, kw_only=True):
    """What is new."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET


class ChatPiece(msgspec.Struct, frozen=True, kw_only=True):
    """New output of one answer."""

    index: int
    delta: MessagePiece
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a chat's stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatPiece]
    usage: UsageBody | UnsetType | None = UNSET
    allsorts: Disclosure | UnsetType = UNSET


class CompletionPiece(msgspec.Struct, frozen=True, kw_only=True):
    """New output of one answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None


class CompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a completion's stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionPiece]
    usage: UsageBody | UnsetType | None = UNSET
    allsorts: Disclosure | UnsetType = UNSET


def usage_body(usage: Usage) -> UsageBody:
    """As OpenAI counts."""
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=usage.cached_tokens),
    )


def finish_of(reason: FinishReason) -> Finish:
    """Those that reach a client."""
    if reason is FinishReason.LENGTH:
        return "length"
    return "tool_calls" if reason is FinishReason.TOOL_CALLS else "stop"


def call_bodies(calls: tuple[ToolCall, ...]) -> list[ToolCallBody] | UnsetType:
    """Left out where nothing is called."""
    bodies = [
        ToolCallBody(id=call.id, function=FunctionBody(name=call.name, arguments=call.arguments)) for call in calls
    ]
    return bodies or UNSET


def call_pieces(calls: tuple[ToolCallDelta, ...]) -> list[ToolCallPiece]:
    """New output of calls, one piece for each: of two, the official client's accumulator loses one."""
    return [
        ToolCallPiece(
            index=call.index,
            id=call.id or UNSET,
            type="function" if call.name else UNSET,
            function=FunctionPiece(name=call.name or UNSET, arguments=call.arguments),
        )
        for call in _joined(calls)
    ]


def _joined(calls: tuple[ToolCallDelta, ...]) -> list[ToolCallDelta]:
    """Each call once, in order."""
    if len(calls) == 1:
        return list(calls)
    joined: dict[int, ToolCallDelta] = {}
    for one in calls:
        before = joined.get(one.index)
        if before is not None:
            one = ToolCallDelta(
                index=one.index,
                id=before.id or one.id,
                name=before.name or one.name,
                arguments=before.arguments + one.arguments,
            )
        joined[one.index] = one
    return list(joined.values())
