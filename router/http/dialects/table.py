"""Every dialect and the path it is spoken on. To add one: a package, and a line here."""

from collections.abc import Mapping

from router.http.dialects.anthropic.messages import AnthropicCount, AnthropicMessages
from router.http.dialects.dialect import Dialect
from router.http.dialects.openai.chat import OpenAIChat
from router.http.dialects.openai.completions import OpenAICompletions
from router.http.dialects.openai.embeddings import OpenAIEmbeddings


def dialects(*, strict: bool) -> Mapping[str, Dialect]:
    """By path, all of them POST. ``strict``: unknown fields are refused."""
    return {
        "/v1/chat/completions": OpenAIChat(strict=strict),
        "/v1/completions": OpenAICompletions(strict=strict),
        "/v1/embeddings": OpenAIEmbeddings(strict=strict),
        "/v1/messages": AnthropicMessages(strict=strict),
        "/v1/messages/count_tokens": AnthropicCount(strict=strict),
    }
