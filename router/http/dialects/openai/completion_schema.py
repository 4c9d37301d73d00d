"""The body of ``POST /v1/completions``."""

from typing import Annotated

from msgspec import Meta

from router.http.dialects.openai.fields import (
    MAX_TOKENS,
    MAX_TOP_LOGPROBS,
    EmptyText,
    GenerationFields,
    Text,
    TokenId,
)


class CompletionRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/completions``: prompts as text or token ids, one or many."""

    prompt: Text | Annotated[list[TokenId | Text | list[TokenId]], Meta(min_length=1, max_length=2**21)]
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    suffix: EmptyText = None
