"""What each dialect reads and writes, for the document: the types themselves, and nothing said twice."""

from dataclasses import dataclass

import msgspec

from router.http.dialects.anthropic.answers import (
    BlockDelta,
    BlockStart,
    BlockStop,
    MessageAnswer,
    MessageDelta,
    MessageStart,
    MessageStop,
    TokenCountAnswer,
)
from router.http.dialects.anthropic.schema import CountRequest, MessagesRequest
from router.http.dialects.openai.answers import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk
from router.http.dialects.openai.chat_schema import ChatRequest
from router.http.dialects.openai.completion_schema import CompletionRequest
from router.http.dialects.openai.embeddings import EmbeddingList, EmbeddingRequest

SSE = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """One path. ``stream``: content type of a stream of ``events``, where there is one."""

    path: str
    name: str
    summary: str
    tag: str
    request: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    stream: str = ""
    events: tuple[type[msgspec.Struct], ...] = ()
    error: str = ""  # schema of its errors, where they are not OpenAI's


INFERENCES = (
    Inferred(
        path="/v1/chat/completions",
        name="chat",
        summary="Answer a conversation.",
        tag="OpenAI",
        request=ChatRequest,
        answer=ChatCompletion,
        stream=SSE,
        events=(ChatCompletionChunk,),
    ),
    Inferred(
        path="/v1/completions",
        name="completion",
        summary="Go on with a text.",
        tag="OpenAI",
        request=CompletionRequest,
        answer=Completion,
        stream=SSE,
        events=(CompletionChunk,),
    ),
    Inferred(
        path="/v1/embeddings",
        name="embeddings",
        summary="Vectors of texts.",
        tag="OpenAI",
        request=EmbeddingRequest,
        answer=EmbeddingList,
    ),
    Inferred(
        path="/v1/messages",
        name="messages",
        summary="Answer a conversation.",
        tag="Anthropic",
        request=MessagesRequest,
        answer=MessageAnswer,
        stream=SSE,
        events=(MessageStart, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop),
        error="AnthropicError",
    ),
    Inferred(
        path="/v1/messages/count_tokens",
        name="countTokens",
        summary="The tokens of a conversation, counted by a worker.",
        tag="Anthropic",
        request=CountRequest,
        answer=TokenCountAnswer,
        error="AnthropicError",
    ),
)
"""In the order the document shows them."""
