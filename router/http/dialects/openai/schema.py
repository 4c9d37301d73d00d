"""Bodies of ``POST /v1/chat/completions`` and ``/v1/completions``. The OpenAPI document is made from these types:
both always agree.

Some fields exist in OpenAI's API but not here: their harmless values pass, all others are answered with the reason
(``unsupported.py``).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from router.http.dialects.openai.fields import (
    MAX_MESSAGES,
    MAX_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    EmptyText,
    GenerationFields,
    Ignored,
    JsonObject,
    Name,
    NoList,
    Nothing,
    Text,
    TextOnly,
    TokenCount,
    TokenId,
)


class ImageUrl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image as a data URL."""

    url: Annotated[str, Meta(max_length=32 * 1024 * 1024)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ContentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a message: text, an image, or an earlier refusal or thought."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["text", "image_url", "refusal", "thinking"]})]
    text: Text | None = None
    image_url: ImageUrl | str | None = None
    refusal: Text | None = None
    thinking: Text | None = None
    input_audio: Nothing = None
    file: Nothing = None


class FunctionCalled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call in a history; arguments as JSON text, or as the object itself."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: Text | JsonObject | None = None


class ToolCalled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an assistant called before."""

    function: FunctionCalled
    id: Name | None = None
    type: Literal["function"] | None = None
    index: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message. Answers may be sent back as they came."""

    role: Annotated[
        Literal["developer", "system", "user", "assistant", "tool", "function"],
        Meta(extra_json_schema={"enum": ["developer", "system", "user", "assistant", "tool"]}),
    ]
    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)] | None = None
    name: Annotated[str, Meta(max_length=64)] | None = None
    tool_calls: Annotated[list[ToolCalled], Meta(max_length=256)] | None = None
    tool_call_id: Name | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    refusal: Text | None = None
    function_call: Nothing = None
    audio: Nothing = None
    annotations: Ignored = None


class FunctionOffered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be called."""

    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+$")]
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolOffered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool; only functions are served."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["function"]})] = "function"
    function: FunctionOffered | None = None


class FunctionName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which one."""

    name: Name


class AllowedTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the allowed ones."""

    function: FunctionName
    type: str = "function"


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some of the tools, and whether one of them must be called."""

    tools: list[AllowedTool]
    mode: Literal["auto", "required"] = "auto"


class ToolChosen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That tool, or some of them."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["function", "allowed_tools"]})]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class SchemaFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON schema that the answer keeps to; always strictly."""

    name: Name | None = None
    description: Text | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the answer must be like. ``schema`` beside the type, as llama.cpp's server has it, is taken too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None
    schema: JsonObject | None = None


class ChatRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolOffered], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChosen | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    modalities: TextOnly = None
    functions: NoList = None
    function_call: Annotated[Any, Meta(extra_json_schema={"enum": ["none", "auto", None]})] = None
    audio: Nothing = None
    web_search_options: Nothing = None
    # of OpenAI's own platform: accepted, without effect
    prediction: Ignored = None
    verbosity: Ignored = None
    store: Ignored = None
    metadata: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None


class CompletionRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/completions``: prompts as text or token ids, one or many."""

    prompt: Text | Annotated[list[TokenId | Text | list[TokenId]], Meta(min_length=1, max_length=2**21)]
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    suffix: EmptyText = None
