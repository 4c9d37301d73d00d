"""Messages as templates read them: dictionaries, in the words that a template knows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from protos.contract.request import ChatMessage
from protos.contract.tools import Tool, ToolCall
from workers.engines.templates import generic


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a template renders. ``typed``: content must be a list of parts."""

    typed: bool = False
    system: bool = True
    tools: bool = True  # describes the tools itself
    calls: bool = True  # renders calls and their results
    text_arguments: bool = False  # of calls: as JSON text, not as objects
    short_ids: bool = False  # of calls: nine letters and digits


def spoken(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], traits: Traits
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """(messages, tools) for the template; what it cannot render is put into text."""
    told = [message if traits.calls else _in_words(message) for message in messages]
    if tools and not traits.tools:
        told = _with_system(told, generic.description(tools))
    if not traits.system:
        told = _without_system(told)
    described = [tool_dict(one) for one in tools] if tools and traits.tools else None
    return [_dict(one, traits) for one in told], described


def joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With neighbours of one role as one message, for templates in which roles must alternate."""
    out: list[dict[str, Any]] = []
    for one in messages:
        last = out[-1] if out else None
        plain = last is not None and last.keys() | one.keys() == {"role", "content"}
        if last is not None and plain and last["role"] == one["role"] and type(last["content"]) is type(one["content"]):
            between = "\n\n" if isinstance(one["content"], str) else []
            out[-1] = {"role": one["role"], "content": last["content"] + between + one["content"]}
        else:
            out.append(one)
    return out


def tool_dict(tool: Tool) -> dict[str, Any]:
    """As OpenAI's API has it, and templates expect it."""
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    function["parameters"] = json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _dict(message: ChatMessage, traits: Traits) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": _content(message, traits)}
    if message.name:
        out["name"] = message.name
    if message.reasoning:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [_call(one, traits) for one in message.tool_calls]
    if message.tool_call_id:
        out["tool_call_id"] = _id(message.tool_call_id, traits)
    return out


def _content(message: ChatMessage, traits: Traits) -> str | list[dict[str, Any]]:
    if not traits.typed and not message.images:
        return message.text
    parts = message.parts or ((message.content,) if message.content else ())
    return [{"type": "text", "text": one} if isinstance(one, str) else {"type": "image"} for one in parts]


def _call(call: ToolCall, traits: Traits) -> dict[str, Any]:
    arguments: Any = call.arguments or "{}"
    if not traits.text_arguments:
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"text": arguments}
    return {
        "id": _id(call.id, traits),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _id(text: str, traits: Traits) -> str:
    if not traits.short_ids or (len(text) == 9 and text.isalnum()):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:9]


def _in_words(message: ChatMessage) -> ChatMessage:
    """Calls and results as text."""
    if message.tool_calls:
        calls = "\n".join(generic.call(one) for one in message.tool_calls)
        text = f"{message.text}\n{calls}" if message.text else calls
        return replace(message, content=text, parts=(), tool_calls=())
    if message.role == "tool":
        return ChatMessage(role="user", content=generic.result(message.name, message.text))
    return message


def _with_system(messages: list[ChatMessage], text: str) -> list[ChatMessage]:
    if messages and messages[0].role == "system":
        first = messages[0]
        return [replace(first, content=f"{first.text}\n\n{text}", parts=()), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]


def _without_system(messages: list[ChatMessage]) -> list[ChatMessage]:
    """System messages in front of the first user message, with an empty line between."""
    system = "\n\n".join(one.text for one in messages if one.role == "system")
    rest = [one for one in messages if one.role != "system"]
    if not system:
        return rest
    at = next((place for place, one in enumerate(rest) if one.role == "user"), None)
    if at is None:
        return [ChatMessage(role="user", content=system), *rest]
    user = rest[at]
    parts = (f"{system}\n\n", *user.parts) if user.parts else ()
    content = "" if user.parts else f"{system}\n\n{user.content}"
    return [*rest[:at], replace(user, content=content, parts=parts), *rest[at + 1 :]]
