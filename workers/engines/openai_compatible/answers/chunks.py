"""Completion chunks as servers send them: what is well formed quickly, anything else field by field. Pure.

Whatever a server sends becomes a ``Chunk``: a field of another type than it should have says nothing, an event that is
no chunk is an error of this one answer.
"""

import json
from typing import Any

import msgspec
from msgspec import Struct

from protos.contract.stream import FinishReason, TokenLogprob, Usage
from protos.contract.tools import ToolCallDelta
from workers.engines.openai_compatible.answers.chunk_logprobs import logprobs_of

MOST_TOKENS = 2**31 - 1
"""What a count may be at most; more is no count."""


class Chunk(Struct, frozen=True, kw_only=True, gc=False):
    """What one streamed event says."""

    text: str = ""
    reasoning: str = ""  # what the model thinks before it answers
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    error: str = ""


_NOTHING = Chunk()
_FINISH = {"length": FinishReason.LENGTH, "tool_calls": FinishReason.TOOL_CALLS}
"""Everything else a server may say (stop, eos, content_filter) is a stop."""

MAX_CALLS = 128
"""In one answer; what is beyond is no call of a tool."""


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None  # DeepSeek's name, vLLM's until 0.11, llama-server's
    reasoning: str | None = None  # Ollama's, OpenRouter's and vLLM's since
    tool_calls: Any = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class _Event(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def parse_chunk(data: bytes) -> Chunk:
    """One event's JSON. An event that cannot be understood becomes an error chunk."""
    try:
        event = _decode(data)
    except msgspec.ValidationError:
        return _field_by_field(data)
    except (msgspec.DecodeError, RecursionError):
        return _no_json(data)
    if event.error is not None:
        return Chunk(error=error_line({"error": event.error}))
    usage = usage_of(event.usage) if event.usage is not None else None
    if not event.choices:
        return Chunk(usage=usage) if usage is not None else _or_an_error(data)
    choice = event.choices[0]
    delta = choice.delta
    text, reasoning = choice.text or "", ""
    calls: tuple[ToolCallDelta, ...] = ()
    if delta is not None:
        text = text or delta.content or ""
        reasoning = delta.reasoning_content or delta.reasoning or ""
        calls = calls_of(delta.tool_calls) if delta.tool_calls else ()
    reason = choice.finish_reason
    return Chunk(
        text=text,
        reasoning=reasoning,
        finish_reason=_FINISH.get(reason, FinishReason.STOP) if reason else None,
        usage=usage,
        logprobs=logprobs_of(choice.logprobs) if choice.logprobs is not None else (),
        tool_calls=calls,
    )


def _field_by_field(data: bytes) -> Chunk:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return _no_json(data)
    if not isinstance(event, dict):
        return Chunk(error=f"the server sent something that is no chunk: {_shown(data)}")
    if event.get("error") is not None:
        return Chunk(error=error_line(event))
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return _of_choice(choice if isinstance(choice, dict) else {}, usage_of(event.get("usage")), "delta")


def whole_answer(body: Any) -> Chunk:
    """A completion that came in one piece, as servers send it that do not stream."""
    if not isinstance(body, dict):
        return Chunk(error="the server answered with JSON that is no completion")
    choices = body.get("choices")
    if body.get("error") is not None or not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        return Chunk(error=error_line(body))
    chunk = _of_choice(choices[0], usage_of(body.get("usage")), "message")
    return chunk if chunk.finish_reason else msgspec.structs.replace(chunk, finish_reason=FinishReason.STOP)


def _of_choice(choice: dict[str, Any], usage: Usage | None, part: str) -> Chunk:
    said = choice.get(part)
    said = said if isinstance(said, dict) else {}
    reason = choice.get("finish_reason")
    return Chunk(
        text=text_of(choice.get("text")) or text_of(said.get("content")),
        reasoning=text_of(said.get("reasoning_content")) or text_of(said.get("reasoning")),
        finish_reason=_FINISH.get(reason, FinishReason.STOP) if isinstance(reason, str) and reason else None,
        usage=usage,
        logprobs=logprobs_of(choice.get("logprobs")),
        tool_calls=calls_of(said.get("tool_calls")),
    )


def calls_of(value: Any) -> tuple[ToolCallDelta, ...]:
    """Pieces of calls; what is no call says nothing. Some servers give a whole call at once, or no index."""
    found = []
    for place, one in enumerate(value if isinstance(value, list) else []):
        function = one.get("function") if isinstance(one, dict) else None
        if not isinstance(function, dict):
            continue
        index = one.get("index")
        arguments = function.get("arguments")
        piece = ToolCallDelta(
            index=index if type(index) is int and 0 <= index < MAX_CALLS else min(place, MAX_CALLS - 1),
            id=text_of(one.get("id")),
            name=text_of(function.get("name")),
            arguments=json.dumps(arguments) if isinstance(arguments, dict) else text_of(arguments),
        )
        if piece.id or piece.name or piece.arguments:
            found.append(piece)
    return tuple(found)


def text_of(value: Any) -> str:
    """A text, also where it comes as a list of parts."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # half a surrogate pair is no character
    if isinstance(value, dict):
        return text_of(value.get("text"))
    return "".join(map(text_of, value)) if isinstance(value, list) else ""


def _or_an_error(data: bytes) -> Chunk:
    """No choices and no usage: a note some servers begin with, or an error without its wrapping."""
    event = json.loads(data)
    said = event.get("message") or event.get("detail")
    if "choices" not in event and isinstance(said, str) and said:
        return Chunk(error=error_line(event))
    return _NOTHING


def _no_json(data: bytes) -> Chunk:
    return Chunk(error=f"the server sent something that is no JSON: {_shown(data)}")


def _shown(data: bytes) -> str:
    return repr(data[:80].decode(errors="replace"))


def error_line(body: Any) -> str:
    """What a server's error body says, in one line."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error)
    return " ".join(str(error).split())[:300] or "an error without a word"


def usage_of(value: Any) -> Usage | None:
    """Token counts; what is no count is zero. None where nothing is told."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=count_of(value.get("prompt_tokens")),
        completion_tokens=count_of(value.get("completion_tokens")),
        cached_tokens=count_of(details.get("cached_tokens") if isinstance(details, dict) else None),
    )


def count_of(value: Any) -> int:
    """A number of tokens, also as a text; zero when it is none, or none that can be."""
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0
    return int(number) if 0 <= number <= MOST_TOKENS else 0
