"""What OpenAI's two ways to generate have in common: fields of their bodies, errors, streams of one shape."""

from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from router.errors import AllsortsError
from router.http.dialects.dialect import Call, Told, Writer
from router.http.dialects.openai.fields import GenerationFields, StreamOptions
from router.http.dialects.openai.sse import SIGN_OF_LIFE
from router.http.dialects.openai.unsupported import UNDOABLE
from router.http.dialects.shared.wish import Wish
from router.http.server.decoding import BodyDecoder
from router.http.server.errors import error_body, error_event
from router.http.server.exchange import EVENT_STREAM

B = TypeVar("B", bound=GenerationFields)


class Writing(Protocol):
    """Makes the writer of one answer."""

    def __call__(self, told: Told, options: StreamOptions | None) -> Writer:
        """``options``: how it is streamed."""
        ...


class OpenAIEndpoint(Generic[B]):
    """See ``Dialect``. ``wish_of`` raises InvalidRequest naming the parameter at fault."""

    stream_type = EVENT_STREAM
    sign_of_life = SIGN_OF_LIFE
    any_type = False

    def __init__(
        self,
        name: str,
        *,
        id_prefix: str,
        body: type[B],
        wish_of: Callable[[B], Wish],
        writing: Writing,
        strict: bool,
    ) -> None:
        self.name = name
        self.id_prefix = id_prefix
        self._decoder = BodyDecoder(body, strict=strict, undoable=UNDOABLE)
        self._wish_of = wish_of
        self._writing = writing

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._decoder.decode(body)
        return Call(
            wish=self._wish_of(asked),
            stream=bool(asked.stream),
            writing=partial(self._writing, options=asked.stream_options),
            ignored=ignored,
        )

    def error(self, error: AllsortsError) -> bytes:
        """``{"error": …}``."""
        return error_body(error)

    def error_event(self, error: AllsortsError) -> bytes:
        """The same as an event; no ``[DONE]`` follows."""
        return error_event(error)
