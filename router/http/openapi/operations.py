"""What each dialect reads and writes, for the document: the types themselves, and nothing said twice."""

from dataclasses import dataclass
from functools import partial

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
from router.http.dialects.openai.embeddings import EmbeddingList, EmbeddingRequest
from router.http.dialects.openai.schema import ChatRequest, CompletionRequest
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


_openai = partial(Inferred, tag="OpenAI")
_anthropic = partial(Inferred, tag="Anthropic", error="AnthropicError")
_ollama = partial(Inferred, tag="Ollama", error="OllamaError")

INFERENCES = (
    _openai(
        path="/v1/chat/completions", name="chat", summary="Answer a conversation.",
        request=ChatRequest, answer=ChatCompletion, stream=SSE, events=(ChatCompletionChunk,),
    ),
    _openai(
        path="/v1/completions", name="completion", summary="Go on with a text.",
        request=CompletionRequest, answer=Completion, stream=SSE, events=(CompletionChunk,),
    ),
    _openai(
        path="/v1/embeddings", name="embeddings", summary="Vectors of texts.",
        request=EmbeddingRequest, answer=EmbeddingList,
    ),
    _anthropic(
        path="/v1/messages", name="messages", summary="Answer a conversation.",
        request=MessagesRequest, answer=MessageAnswer, stream=SSE,
        events=(MessageStart, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop),
    ),
    _anthropic(
        path="/v1/messages/count_tokens", name="countTokens",
        summary="The tokens of a conversation, counted by a worker.", request=CountRequest, answer=TokenCountAnswer,
    ),
    _openai(
        path="/v1/responses", name="responses", summary="Answer items; kept for a time, to go on from.",
        request=ResponsesRequest, answer=Response, stream=SSE, events=EVENTS,
    ),
    _ollama(
        path="/api/chat", name="ollamaChat", summary="Answer a conversation.",
        request=OllamaChatRequest, answer=OllamaChatAnswer, stream=NDJSON,
    ),
    _ollama(
        path="/api/generate", name="ollamaGenerate", summary="Answer a prompt.",
        request=GenerateRequest, answer=GenerateAnswer, stream=NDJSON,
    ),
    _ollama(
        path="/api/embed", name="ollamaEmbed", summary="Vectors of texts.", request=EmbedRequest, answer=EmbedAnswer
    ),
    _ollama(
        path="/api/embeddings", name="ollamaEmbeddings", summary="The vector of a text.",
        request=EmbeddingsRequest, answer=EmbeddingsAnswer,
    ),
)  # fmt: skip
"""In the order the document shows them."""
