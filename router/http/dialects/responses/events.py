"""Events of a response's stream, in the order they come for each item: added, parts, deltas, done."""

from typing import Any

import msgspec

from router.http.dialects.openai.logprobs import ChatToken
from router.http.dialects.responses.answers import OutputItem, OutputText, ReasoningText, Response


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    sequence_number: int


class Created(_Event, frozen=True, kw_only=True, tag="response.created"):
    """The first event."""

    response: Response


class InProgress(_Event, frozen=True, kw_only=True, tag="response.in_progress"):
    """The second."""

    response: Response


class Completed(_Event, frozen=True, kw_only=True, tag="response.completed"):
    """The last."""

    response: Response


class Incomplete(_Event, frozen=True, kw_only=True, tag="response.incomplete"):
    """The last, when tokens ran out."""

    response: Response


class ItemAdded(_Event, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class ItemDone(_Event, frozen=True, kw_only=True, tag="response.output_item.done"):
    """It is complete."""

    output_index: int
    item: OutputItem


class PartAdded(_Event, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A part of an item begins."""

    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText | ReasoningText


class PartDone(_Event, frozen=True, kw_only=True, tag="response.content_part.done"):
    """It is complete."""

    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText | ReasoningText


class TextDelta(_Event, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More text."""

    item_id: str
    output_index: int
    content_index: int = 0
    delta: str
    logprobs: list[ChatToken] = []


class TextDone(_Event, frozen=True, kw_only=True, tag="response.output_text.done"):
    """All of it."""

    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[ChatToken] = []


class ReasoningDelta(_Event, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More thought."""

    item_id: str
    output_index: int
    content_index: int = 0
    delta: str


class ReasoningDone(_Event, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """All of it."""

    item_id: str
    output_index: int
    content_index: int = 0
    text: str


class ArgumentsDelta(_Event, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """More of a call's arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(_Event, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """All of them."""

    item_id: str
    output_index: int
    name: str
    arguments: str


class Failure(_Event, frozen=True, kw_only=True, tag="error"):
    """The end, when something went wrong."""

    code: str
    message: str
    param: str | None = None


EVENTS = (
    Created, InProgress, ItemAdded, PartAdded, TextDelta, TextDone, ReasoningDelta, ReasoningDone, ArgumentsDelta,
    ArgumentsDone, PartDone, ItemDone, Completed, Incomplete, Failure,
)  # fmt: skip
"""All there are."""


def written(event: Any) -> bytes:
    """As server-sent."""
    name: bytes = type(event).__struct_config__.tag.encode()
    return b"event: " + name + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
