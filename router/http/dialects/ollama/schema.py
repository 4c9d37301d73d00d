"""Bodies of Ollama's requests. A stream is what its clients get unless they say otherwise."""

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
    Text,
)

Image64 = Annotated[str, Meta(max_length=32 * 1024 * 1024)]
Think = bool | Literal["low", "medium", "high"]


KeepAlive = Annotated[float | Annotated[str, Meta(max_length=64)] | None, Meta(description="Seconds, or such as 5m.")]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn. Those that steer Ollama's own loading have no effect here."""

    num_predict: Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Annotated[list[Annotated[str, Meta(max_length=1024)]], Meta(max_length=16)] | str | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    num_ctx: Ignored = None
    num_keep: Ignored = None
    num_batch: Ignored = None
    num_gpu: Ignored = None
    num_thread: Ignored = None
    main_gpu: Ignored = None
    use_mmap: Ignored = None
    repeat_last_n: Ignored = None
    typical_p: Ignored = None
    penalize_newline: Ignored = None


class FunctionCalled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call in a history."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: JsonObject | None = None
    index: int | None = None


class ToolCalled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an assistant called before."""

    function: FunctionCalled
    id: Name | None = None
    type: Name | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    thinking: Text | None = None
    images: Annotated[list[Image64], Meta(max_length=64)] | None = None
    tool_calls: Annotated[list[ToolCalled], Meta(max_length=256)] | None = None
    tool_name: Name | None = None
    tool_call_id: Name | None = None


class FunctionOffered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be called."""

    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+$")]
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolOffered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool."""

    function: FunctionOffered
    type: Literal["function"] = "function"


class OllamaFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat and generate both take. ``format``: ``json``, or a JSON schema."""

    model: Model
    stream: bool | None = None
    format: Literal["json", ""] | JsonObject | None = None
    options: Options | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    keep_alive: KeepAlive = None
    # ours
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class OllamaChatRequest(OllamaFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /api/chat``."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[ToolOffered], Meta(max_length=MAX_TOOLS)] | None = None


class GenerateRequest(OllamaFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /api/generate``: the prompt goes through the model's template unless it is ``raw``."""

    prompt: Text | None = None
    system: Text | None = None
    images: Annotated[list[Image64], Meta(max_length=64)] | None = None
    raw: bool | None = None
    suffix: Annotated[Any, Meta(extra_json_schema={"enum": ["", None]})] = None
    template: Annotated[Any, Meta(extra_json_schema={"enum": ["", None]})] = None
    context: Ignored = None


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /api/embed``."""

    model: Model
    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=2048)]
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    truncate: Ignored = None
    options: Ignored = None
    keep_alive: KeepAlive = None


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /api/embeddings``: one text, as before there was ``/api/embed``."""

    model: Model
    prompt: Annotated[Text, Meta(min_length=1)]
    options: Ignored = None
    keep_alive: KeepAlive = None


class ShowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /api/show``."""

    model: Model | None = None
    name: Model | None = None
    verbose: bool | None = None
