"""Bodies of ``POST /v1/messages`` and ``/v1/messages/count_tokens``."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from router.http.dialects.openai.fields import (
    MAX_MESSAGES,
    MAX_TOOLS,
    Ignored,
    JsonObject,
    Model,
    Name,
    Text,
    TokenCount,
    Unit,
)

_Blocks = Annotated[list["Block"], Meta(max_length=MAX_MESSAGES)]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an image or a document comes from; images come along in base64 or by URL, documents as text."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["base64", "text", "url"]})]
    media_type: Name | None = None
    data: Annotated[str, Meta(max_length=32 * 1024 * 1024)] | None = None
    url: Annotated[str, Meta(max_length=8192)] | None = None
    file_id: Ignored = None


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a message, of whichever type."""

    type: Annotated[
        str,
        Meta(
            extra_json_schema={
                "enum": ["text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking", "document"]
            }
        ),
    ]
    text: Text | None = None
    source: Source | None = None
    id: Name | None = None
    name: Name | None = None
    input: JsonObject | None = None
    tool_use_id: Name | None = None
    content: Text | _Blocks | None = None
    is_error: bool | None = None
    thinking: Text | None = None
    signature: Ignored = None
    data: Ignored = None
    citations: Ignored = None
    title: Text | None = None
    context: Text | None = None
    cache_control: Ignored = None


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: Text | _Blocks


class ToolOffered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be called. Tools that Anthropic's own servers run have another type."""

    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+$")]
    type: Annotated[str, Meta(extra_json_schema={"enum": ["custom", None]})] | None = None
    description: Text | None = None
    input_schema: JsonObject | None = None
    strict: bool | None = None
    cache_control: Ignored = None


class ToolChosen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether there must be a call."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether to think first; the budget is the model's own matter here."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Ignored = None
    display: Ignored = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the answer must be like."""

    schema: JsonObject
    type: Literal["json_schema"] = "json_schema"


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, under its newer name, and how much to think."""

    format: OutputFormat | None = None
    effort: Annotated[str, Meta(max_length=32)] | None = None


class CountRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/messages/count_tokens``."""

    model: Model
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | _Blocks | None = None
    tools: Annotated[list[ToolOffered], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChosen | None = None
    thinking: Thinking | None = None
    output_format: OutputFormat | None = None
    output_config: OutputConfig | None = None
    cache_control: Ignored = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/messages``. Fields after "ours" are none of Anthropic's."""

    max_tokens: TokenCount
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(max_length=1024)]], Meta(max_length=16)] | None = None
    stream: bool | None = None
    metadata: Ignored = None
    service_tier: Ignored = None
    # ours
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


UNDOABLE: dict[str, Any] = {
    "mcp_servers": "servers of tools are not called from here; offer their tools",
    "container": "nothing is run here",
}
"""Fields that would change the answer: a 400, not ignored in silence."""
