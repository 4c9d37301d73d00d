"""Every dialect and the path it is spoken on. To add one: a package, and a line here."""

from collections.abc import Callable, Collection, Mapping

from router.http.dialects.anthropic.messages import AnthropicCount, AnthropicMessages
from router.http.dialects.dialect import Dialect
from router.http.dialects.ollama.api import OllamaChat, OllamaEmbed, OllamaEmbeddings, OllamaGenerate
from router.http.dialects.ollama.names import Names
from router.http.dialects.openai.chat import openai_chat
from router.http.dialects.openai.completions import openai_completions
from router.http.dialects.openai.embeddings import OpenAIEmbeddings
from router.http.dialects.responses.api import OpenAIResponses


def dialects(known: Callable[[], Collection[str]], *, strict: bool, keeps: bool) -> Mapping[str, Dialect]:
    """By path, all of them POST. ``known``: names of models; ``strict``: unknown fields are refused; ``keeps``: answers
    of the Responses API are kept.
    """
    names = Names(known)
    return {
        "/v1/chat/completions": openai_chat(strict=strict),
        "/v1/completions": openai_completions(strict=strict),
        "/v1/embeddings": OpenAIEmbeddings(strict=strict),
        "/v1/responses": OpenAIResponses(strict=strict, keeps=keeps),
        "/v1/messages": AnthropicMessages(strict=strict),
        "/v1/messages/count_tokens": AnthropicCount(strict=strict),
        "/api/chat": OllamaChat(names, strict=strict),
        "/api/generate": OllamaGenerate(names, strict=strict),
        "/api/embed": OllamaEmbed(names, strict=strict),
        "/api/embeddings": OllamaEmbeddings(names, strict=strict),
    }
