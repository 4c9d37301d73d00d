"""``POST /api/chat``, ``/api/generate``, ``/api/embed`` and ``/api/embeddings``."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from protos.contract.request import EmbeddingInputs
from protos.contract.stream import Usage
from router.errors import AllsortsError
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Call
from router.http.dialects.ollama.answers import NANOSECONDS, EmbedAnswer, EmbeddingsAnswer, OllamaError
from router.http.dialects.ollama.keep_alive import keep_alive_s
from router.http.dialects.ollama.names import Names
from router.http.dialects.ollama.schema import EmbeddingsRequest, EmbedRequest, GenerateRequest, OllamaChatRequest
from router.http.dialects.ollama.translate import chat_wish, generate_wish
from router.http.dialects.ollama.writer import ChatLines, GenerateLines
from router.http.dialects.openai.embeddings import inputs_of
from router.http.dialects.shared.silent import SilentWriter
from router.http.dialects.shared.wish import Wish
from router.http.server.decoding import BodyDecoder

NDJSON = b"application/x-ndjson"


class OllamaChat:
    """See ``Dialect``."""

    name = "ollama.chat"
    id_prefix = "ollama"
    stream_type = NDJSON
    sign_of_life = b""  # every line is an answer to its clients
    any_type = True

    def __init__(self, names: Names, *, strict: bool) -> None:
        self._names = names
        self._chats = BodyDecoder(OllamaChatRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._chats.decode(body)
        return Call(
            wish=self._named(chat_wish(asked)),
            stream=asked.stream is not False,
            writing=ChatLines,
            ignored=ignored,
            keep_alive_s=keep_alive_s(asked.keep_alive),
        )

    def error(self, error: AllsortsError) -> bytes:
        """``{"error": …}``."""
        return msgspec.json.encode(OllamaError(error=error.message))

    def error_event(self, error: AllsortsError) -> bytes:
        """The same as a line."""
        return self.error(error) + b"\n"

    def _named(self, wish: Wish) -> Wish:
        return replace(wish, model=self._names.ours(wish.model))


class OllamaGenerate(OllamaChat):
    """See ``Dialect``."""

    name = "ollama.generate"

    def __init__(self, names: Names, *, strict: bool) -> None:
        super().__init__(names, strict=strict)
        self._prompts = BodyDecoder(GenerateRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault. Without a prompt, clients want the model loaded."""
        asked, ignored = self._prompts.decode(body)
        return Call(
            wish=self._named(generate_wish(asked)),
            stream=asked.stream is not False and bool(asked.prompt),
            writing=GenerateLines,
            ignored=ignored,
            keep_alive_s=keep_alive_s(asked.keep_alive),
            count_only=not asked.prompt,
        )


class OllamaEmbed(OllamaChat):
    """See ``Dialect``."""

    name = "ollama.embed"

    def __init__(self, names: Names, *, strict: bool) -> None:
        super().__init__(names, strict=strict)
        self._inputs = BodyDecoder(EmbedRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._inputs.decode(body)
        texts = [asked.input] if isinstance(asked.input, str) else list(asked.input)
        inputs = EmbeddingInputs(inputs=inputs_of([*texts]), dimensions=asked.dimensions or 0)
        wish = self._named(Wish(model=asked.model, embedding=inputs))
        return Call(
            wish=wish, stream=False, writing=_EmbedWriter, ignored=ignored, keep_alive_s=keep_alive_s(asked.keep_alive)
        )


class OllamaEmbeddings(OllamaChat):
    """See ``Dialect``."""

    name = "ollama.embeddings"

    def __init__(self, names: Names, *, strict: bool) -> None:
        super().__init__(names, strict=strict)
        self._texts = BodyDecoder(EmbeddingsRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._texts.decode(body)
        wish = self._named(Wish(model=asked.model, embedding=EmbeddingInputs(inputs=(asked.prompt,))))
        return Call(
            wish=wish,
            stream=False,
            writing=_EmbeddingsWriter,
            ignored=ignored,
            keep_alive_s=keep_alive_s(asked.keep_alive),
        )


class _EmbedWriter(SilentWriter):
    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        return msgspec.json.encode(
            EmbedAnswer(
                model=self.told.model,
                embeddings=list(answers[0].vectors),
                total_duration=int(self.told.elapsed_s() * NANOSECONDS),
                prompt_eval_count=usage.prompt_tokens,
            )
        )


class _EmbeddingsWriter(SilentWriter):
    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:  # noqa: ARG002 - as every writer
        return msgspec.json.encode(EmbeddingsAnswer(embedding=answers[0].vectors[0]))
