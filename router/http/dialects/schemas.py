"""Request bodies as clients may send them. The OpenAPI document is made from these types, so both always agree.

``null`` means "not given" everywhere, as it does at OpenAI. Some fields exist in OpenAI's API but not
here yet: their harmless values pass, all others are answered with the reason (``router.http.dialects.unsupported``).
Fields after "beyond OpenAI" reach us through the client's ``extra_body``.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TOKENS = 2**31 - 1
MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20


# Fields of which only harmless values pass; the JSON schema says which.
_Nothing = Annotated[Any, Meta(extra_json_schema={"type": "null"})]
_NoList = Annotated[Any, Meta(extra_json_schema={"type": ["array", "null"], "maxItems": 0})]
_NoObject = Annotated[Any, Meta(extra_json_schema={"type": ["object", "null"], "maxProperties": 0})]
_One = Annotated[Any, Meta(extra_json_schema={"enum": [1, None]})]
_No = Annotated[Any, Meta(extra_json_schema={"enum": [False, None]})]
_EmptyText = Annotated[Any, Meta(extra_json_schema={"enum": ["", None]})]
_NoTool = Annotated[Any, Meta(extra_json_schema={"enum": ["none", "auto", None]})]
_TextOnly = Annotated[Any, Meta(extra_json_schema={"enum": [["text"], None]})]
_TextFormat = Annotated[Any, Meta(extra_json_schema={"enum": [{"type": "text"}, None]})]

_Text = Annotated[str, Meta(max_length=8 * 1024 * 1024)]
_Name = Annotated[str, Meta(max_length=256)]
_StopString = Annotated[str, Meta(min_length=1, max_length=1024)]
_TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Unit = Annotated[float, Meta(ge=0, le=1)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to stream. Obfuscation is accepted and does nothing."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as in time, in seconds."""

    ttft_s: _Seconds | None = None
    ttft_per_prompt_token_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    tpot_s: _Seconds | None = None


class ContentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a message; only text so far."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["text"]})]
    text: _Text | None = None
    image_url: _Nothing = None
    input_audio: _Nothing = None
    file: _Nothing = None
    refusal: _Nothing = None


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message. Answers may be sent back as they came: their empty fields are accepted."""

    role: Annotated[
        Literal["developer", "system", "user", "assistant", "tool", "function"],
        Meta(extra_json_schema={"enum": ["developer", "system", "user", "assistant"]}),
    ]
    content: _Text | Annotated[list[ContentPart], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    name: Annotated[str, Meta(max_length=64)] | None = None
    refusal: _Nothing = None
    tool_calls: _NoList = None
    tool_call_id: _Nothing = None
    function_call: _Nothing = None
    audio: _Nothing = None
    annotations: _NoList = None


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both endpoints take."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _StopString | Annotated[list[_StopString], Meta(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: _Name | None = None
    n: _One = None
    logit_bias: _NoObject = None
    # beyond OpenAI
    top_k: Annotated[int, Meta(ge=-1, le=MAX_TOKENS)] | None = None
    min_p: _Unit | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    grammar: _Nothing = None
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    slo: Slo | None = None
    deadline_s: _Seconds | None = None


class ChatRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: _TextFormat = None
    tools: _NoList = None
    tool_choice: _NoTool = None
    parallel_tool_calls: bool | None = None
    functions: _NoList = None
    function_call: _NoTool = None
    modalities: _TextOnly = None
    audio: _Nothing = None
    prediction: _Nothing = None
    reasoning_effort: _Nothing = None
    verbosity: _Nothing = None
    web_search_options: _Nothing = None
    store: _No = None
    # bookkeeping of OpenAI's own platform: accepted, without effect
    metadata: dict[str, str] | None = None
    service_tier: Annotated[str, Meta(max_length=32)] | None = None
    safety_identifier: _Name | None = None
    prompt_cache_key: _Name | None = None


class CompletionRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/completions``: one prompt, as text or token ids."""

    prompt: _Text | Annotated[list[_TokenId | _Text | list[_TokenId]], Meta(min_length=1)]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    best_of: _One = None
    echo: _No = None
    suffix: _EmptyText = None


class NodeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/undrain`` and ``/admin/cordon``: a node's name or a worker's id."""

    node: Annotated[str, Meta(min_length=1, max_length=128)]


class DrainRequest(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/drain``."""

    deadline_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class RevokeRequest(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/revoke``."""

    reason: Annotated[str, Meta(max_length=500)] = "revoked by the operator"


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/tokens``."""

    ttl_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 3600.0
    uses: Annotated[int, Meta(ge=1, le=10_000)] = 1
    labels: dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]] = {}
