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
from router.http.dialects.ollama.answers import EmbedAnswer, EmbeddingsAnswer, GenerateAnswer, OllamaChatAnswer
from router.http.dialects.ollama.schema import EmbeddingsRequest, EmbedRequest, GenerateRequest, OllamaChatRequest
from router.http.dialects.openai.answers import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk
from router.http.dialects.openai.chat_schema import ChatRequest
from router.http.dialects.openai.completion_schema import CompletionRequest
from router.http.dialects.openai.embeddings import EmbeddingList, EmbeddingRequest
from router.http.dialects.responses.answers import Response
from router.http.dialects.responses.events import EVENTS
from router.http.dialects.responses.schema import ResponsesRequest

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


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
    Inferred(
        path="/v1/responses",
        name="responses",
        summary="Answer items; kept for a time, to go on from.",
        tag="OpenAI",
        request=ResponsesRequest,
        answer=Response,
        stream=SSE,
        events=EVENTS,
    ),
    Inferred(
        path="/api/chat",
        name="ollamaChat",
        summary="Answer a conversation.",
        tag="Ollama",
        request=OllamaChatRequest,
        answer=OllamaChatAnswer,
        stream=NDJSON,
        error="OllamaError",
    ),
    Inferred(
        path="/api/generate",
        name="ollamaGenerate",
        summary="Answer a prompt.",
        tag="Ollama",
        request=GenerateRequest,
        answer=GenerateAnswer,
        stream=NDJSON,
        error="OllamaError",
    ),
    Inferred(
        path="/api/embed",
        name="ollamaEmbed",
        summary="Vectors of texts.",
        tag="Ollama",
        request=EmbedRequest,
        answer=EmbedAnswer,
        error="OllamaError",
    ),
    Inferred(
        path="/api/embeddings",
        name="ollamaEmbeddings",
        summary="The vector of a text.",
        tag="Ollama",
        request=EmbeddingsRequest,
        answer=EmbeddingsAnswer,
        error="OllamaError",
    ),
)
"""In the order the document shows them."""
