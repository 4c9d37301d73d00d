"""Fields that several of OpenAI's request bodies share. ``null`` means "not given" everywhere, as it does there."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_TOKENS = 2**31 - 1
MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
MAX_PROMPTS = 2048
MAX_TOOLS = 512

# Fields of which only harmless values pass; the JSON schema says which.
Nothing = Annotated[Any, Meta(extra_json_schema={"type": "null"})]
NoList = Annotated[Any, Meta(extra_json_schema={"type": ["array", "null"], "maxItems": 0})]
No = Annotated[Any, Meta(extra_json_schema={"enum": [False, None]})]
EmptyText = Annotated[Any, Meta(extra_json_schema={"enum": ["", None]})]
TextOnly = Annotated[Any, Meta(extra_json_schema={"enum": [["text"], None]})]
Ignored = Annotated[Any, Meta(description="Accepted, without effect.")]

Text = Annotated[str, Meta(max_length=8 * 1024 * 1024)]
Name = Annotated[str, Meta(max_length=256)]
Model = Annotated[str, Meta(min_length=1, max_length=256)]
StopString = Annotated[str, Meta(max_length=1024)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenCount = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
BiasTable = Annotated[dict[Annotated[str, Meta(pattern="^[0-9]{1,10}$")], Bias], Meta(max_length=4096)]
JsonObject = dict[str, Any]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to stream. Obfuscation is accepted and does nothing."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as in time, in seconds."""

    ttft_s: Seconds | None = None
    ttft_per_prompt_token_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    tpot_s: Seconds | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """vLLM's: exactly one of them."""

    json: JsonObject | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chats and completions both take. Fields after "beyond OpenAI" reach us through ``extra_body``."""

    model: Model
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Name | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logit_bias: BiasTable | None = None
    # beyond OpenAI: vLLM's and llama.cpp's
    top_k: Annotated[int, Meta(ge=-1, le=MAX_TOKENS)] | None = None
    min_p: Unit | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    chat_template_kwargs: JsonObject | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    json_schema: JsonObject | None = None
    # beyond OpenAI: ours
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    slo: Slo | None = None
    deadline_s: Seconds | None = None
