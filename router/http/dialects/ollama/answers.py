"""Answers as Ollama's clients read them. Durations are nanoseconds."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall
from router.http.dialects.dialect import Told
from router.http.dialects.shared.disclosure import Disclosure

NANOSECONDS = 1_000_000_000


class FunctionBody(msgspec.Struct, frozen=True, kw_only=True):
    """A call's name and arguments."""

    name: str
    arguments: dict[str, Any]
    index: int


class ToolCallBody(msgspec.Struct, frozen=True, kw_only=True):
    """A call, always whole."""

    id: str
    function: FunctionBody


class MessageBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[ToolCallBody] | UnsetType = UNSET


class OllamaToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token's log-probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: "list[OllamaToken] | UnsetType" = UNSET


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Of an answer that is complete; left out before."""

    done_reason: Literal["stop", "length", "load"] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    allsorts: Disclosure | UnsetType = UNSET


class OllamaChatAnswer(Measured, frozen=True, kw_only=True):
    """``POST /api/chat``: whole, or a line of its stream."""

    model: str
    created_at: str
    message: MessageBody
    done: bool
    logprobs: list[OllamaToken] | UnsetType = UNSET


class GenerateAnswer(Measured, frozen=True, kw_only=True):
    """``POST /api/generate``: whole, or a line of its stream."""

    model: str
    created_at: str
    response: str
    done: bool
    thinking: str | UnsetType = UNSET
    logprobs: list[OllamaToken] | UnsetType = UNSET


class EmbedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/embed``."""

    model: str
    embeddings: list[tuple[float, ...]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class EmbeddingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/embeddings``."""

    embedding: tuple[float, ...]


class OllamaError(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error, and its line in a stream."""

    error: str


def measured(told: Told, reason: FinishReason, usage: Usage, disclosed: Disclosure, first_s: float) -> dict[str, Any]:
    """The fields of a complete answer. ``first_s``: when the first output came, since the request did."""
    total = told.elapsed_s()
    first = min(max(first_s, told.waited_s), total) if first_s else total
    return {
        "done_reason": "length" if reason is FinishReason.LENGTH else "stop",
        "total_duration": int(total * NANOSECONDS),
        "load_duration": int(told.waited_s * NANOSECONDS),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": int((first - told.waited_s) * NANOSECONDS),
        "eval_count": usage.completion_tokens,
        "eval_duration": int((total - first) * NANOSECONDS),
        "allsorts": disclosed,
    }


def moment(seconds: float) -> str:
    """RFC 3339.

    >>> moment(0)
    '1970-01-01T00:00:00.000000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def call_bodies(calls: tuple[ToolCall, ...]) -> list[ToolCallBody] | UnsetType:
    """Left out where nothing is called; arguments that are no JSON object come as text under a name of their own."""
    return [_call(index, call) for index, call in enumerate(calls)] or UNSET


def _call(index: int, call: ToolCall) -> ToolCallBody:
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError:
        given = None
    arguments = given if isinstance(given, dict) else {"_unreadable": call.arguments}
    return ToolCallBody(id=call.id, function=FunctionBody(name=call.name, arguments=arguments, index=index))
