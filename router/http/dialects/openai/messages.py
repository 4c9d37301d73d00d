"""Messages of a chat into the contract's: text, images, calls and their results, thoughts."""

import msgspec

from protos.contract.content import ContentPart as Part
from protos.contract.content import Image
from protos.contract.request import ChatMessage
from protos.contract.tools import ToolCall
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.openai.schema import ContentPart, Message, ToolCalled
from router.http.dialects.openai.unsupported import refuse_unsupported_in_message
from router.http.dialects.shared.images import ImageBudget, image_of

_ROLES = {"developer": "system", "function": "tool"}
"""Chat templates know the other name."""


def chat_messages(messages: list[Message]) -> tuple[ChatMessage, ...]:
    """Raises InvalidRequest naming the message."""
    images = ImageBudget()
    return tuple(_message(message, f"messages[{index}]", images) for index, message in enumerate(messages))


def _message(message: Message, where: str, images: ImageBudget) -> ChatMessage:
    refuse_unsupported_in_message(message, where)
    calls = message.tool_calls or []
    if calls and message.role != "assistant":
        raise InvalidRequest(f"only an assistant calls tools, see '{where}.tool_calls'", param=f"{where}.tool_calls")
    if message.content is None and not calls and message.role != "assistant":
        raise InvalidRequest(f"Missing required parameter: '{where}.content'", param=f"{where}.content")
    thought = message.reasoning_content or message.reasoning or ""
    text = ""
    parts: tuple[Part, ...] = ()
    if isinstance(message.content, str):
        text = message.content
    elif message.content is not None:
        thought = thought or "".join(part.thinking or "" for part in message.content if part.type == "thinking")
        text, parts = _parts(message.content, where, images)
    return ChatMessage(
        role=_ROLES.get(message.role, message.role),
        content=text or (message.refusal or "" if not parts else ""),
        name=message.name or "",
        parts=parts,
        tool_calls=tuple(_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)),
        tool_call_id=message.tool_call_id or "",
        reasoning=thought if message.role == "assistant" else "",
    )


def _parts(content: list[ContentPart], where: str, images: ImageBudget) -> tuple[str, tuple[Part, ...]]:
    """Text alone where there is nothing else: most templates know only that."""
    parts: list[Part] = []
    for index, part in enumerate(content):
        name = f"{where}.content[{index}]"
        if part.type == "thinking":
            continue
        if part.type == "image_url":
            parts.append(_image(part, name, images))
            continue
        said = {"text": part.text, "refusal": part.refusal}
        if part.type not in said:
            raise UnsupportedParameter(
                f"Unsupported content type in '{name}': text and images are served, not '{part.type[:50]}'", param=name
            )
        words = said[part.type]
        if words is None:
            raise InvalidRequest(f"Missing required parameter: '{name}.{part.type}'", param=f"{name}.{part.type}")
        parts.append(words)
    if any(isinstance(part, Image) for part in parts):
        return "", tuple(parts)
    return "".join(part for part in parts if isinstance(part, str)), ()


def _image(part: ContentPart, name: str, images: ImageBudget) -> Image:
    given = part.image_url
    if given is None:
        raise InvalidRequest(f"Missing required parameter: '{name}.image_url'", param=f"{name}.image_url")
    url, detail = (given, None) if isinstance(given, str) else (given.url, given.detail)
    return image_of(url, images, detail=detail if detail in ("low", "high") else "", param=f"{name}.image_url")


def _call(call: ToolCalled, where: str) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, str) and arguments.strip():
        try:
            msgspec.json.decode(arguments)
        except msgspec.DecodeError:
            raise InvalidRequest(
                f"'{where}.function.arguments' is not JSON", param=f"{where}.function.arguments"
            ) from None
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
    return ToolCall(id=call.id or "", name=call.function.name, arguments=text.strip() or "{}")
