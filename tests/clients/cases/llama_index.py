"""llama-index, its class for servers like OpenAI's."""

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from tests.clients.table import MODEL


def _model(url: str) -> OpenAILike:
    return OpenAILike(
        model=MODEL, api_base=f"{url}/v1", api_key="none", is_chat_model=True, context_window=2048, max_tokens=12,
        temperature=0, timeout=120, max_retries=0,
    )  # fmt: skip


def chat(url: str) -> None:
    """With a system message."""
    said = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Say hello.")]
    assert _model(url).chat(said).message.content


def stream(url: str) -> None:
    """In pieces."""
    assert list(_model(url).stream_chat([ChatMessage(role="user", content="Say hello.")]))[-1].message.content


def completions(url: str) -> None:
    """A text to go on with."""
    model = _model(url)
    model.is_chat_model = False
    assert model.complete("One, two,").text


def embeddings(url: str) -> None:
    """Two of them."""
    embed = OpenAILikeEmbedding(model_name=MODEL, api_base=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
    assert len(embed.get_text_embedding_batch(["a cat", "tax law"])) == 2
