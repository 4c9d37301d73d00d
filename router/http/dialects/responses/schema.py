"""The body of ``POST /v1/responses``."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from router.http.dialects.openai.fields import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    Ignored,
    JsonObject,
    Model,
    Name,
    Nothing,
    Seconds,
    Text,
    TokenCount,
    Unit,
)
from router.http.dialects.openai.schema import SchemaFormat

PART_TYPES = ("input_text", "output_text", "input_image", "refusal", "reasoning_text", "summary_text", "text")

_Parts = Annotated[list["Part"], Meta(max_length=MAX_MESSAGES)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a message, of whichever type."""

    type: Annotated[
        str,
        Meta(
            extra_json_schema={
                "enum": [
                    "input_text",
                    "output_text",
                    "input_image",
                    "refusal",
                    "reasoning_text",
                    "summary_text",
                    "text",
                ]
            }
        ),
    ]
    text: Text | None = None
    refusal: Text | None = None
    image_url: Annotated[str, Meta(max_length=32 * 1024 * 1024)] | None = None
    detail: Name | None = None
    file_id: Ignored = None
    annotations: Ignored = None
    logprobs: Ignored = None


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message, a call, its result or a thought; without a type it is a message."""

    type: (
        Annotated[
            str,
            Meta(extra_json_schema={"enum": ["message", "function_call", "function_call_output", "reasoning", None]}),
        ]
        | None
    ) = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Text | _Parts | None = None
    id: Name | None = None
    status: Ignored = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: Text | None = None
    output: Text | _Parts | None = None
    summary: _Parts | None = None
    encrypted_content: Ignored = None
    phase: Ignored = None


class ResponseTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function; OpenAI's own tools are not run here."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["function"]})]
    name: Annotated[str, Meta(max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+$")] | None = None
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ResponseToolChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That tool, or some of them."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["function", "allowed_tools"]})]
    name: Name | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[JsonObject] | None = None


class TextFormat(SchemaFormat, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the answer must be like."""

    type: Literal["text", "json_object", "json_schema"]


class TextSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the text."""

    format: TextFormat | None = None
    verbosity: Ignored = None


class ReasoningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much to think."""

    effort: Annotated[str, Meta(max_length=32)] | None = None
    summary: Ignored = None
    generate_summary: Ignored = None


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/responses``. Fields after "ours" are none of OpenAI's."""

    model: Model
    input: (
        Annotated[str, Meta(max_length=8 * 1024 * 1024)]
        | Annotated[list[Item], Meta(min_length=1, max_length=MAX_MESSAGES)]
    )
    instructions: Text | None = None
    max_output_tokens: TokenCount | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    stream: bool | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: ReasoningSettings | None = None
    previous_response_id: Name | None = None
    store: bool | None = None  # for the next call to go on from; not given: yes
    metadata: Annotated[Any, Meta(description="Repeated in the answer.")] = None
    conversation: Nothing = None
    prompt: Nothing = None
    background: Annotated[Any, Meta(extra_json_schema={"enum": [False, None]})] = None
    # of OpenAI's own platform: accepted, without effect
    include: Ignored = None
    user: Ignored = None
    truncation: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    max_tool_calls: Ignored = None
    stream_options: Ignored = None
    # ours
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    deadline_s: Seconds | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
