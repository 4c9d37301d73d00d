"""What every dialect makes of a message's parts, and of fields that must be there."""

from collections.abc import Sequence

from protos.contract.content import ContentPart
from protos.contract.request import ChatMessage
from router.errors import InvalidRequest


def spoken(role: str, parts: Sequence[ContentPart], *, tool_call_id: str = "") -> ChatMessage:
    """Text alone where there is nothing else: most templates know only that."""
    if all(isinstance(part, str) for part in parts):
        text = "".join(part for part in parts if isinstance(part, str))
        return ChatMessage(role=role, content=text, tool_call_id=tool_call_id)
    return ChatMessage(role=role, parts=tuple(parts), tool_call_id=tool_call_id)


def required(value: str | None, where: str) -> str:
    """Raises InvalidRequest where it is missing or empty."""
    if not value:
        raise InvalidRequest(f"Missing required parameter: '{where}'", param=where)
    return value
