"""What a dialect is: one API that clients speak, seen from the flow that serves them all.

A dialect turns a body into a ``Call`` and the router's output into what its clients read. It does nothing else: it
knows no worker, no pipeline and no socket. One is a package of schemas, a translation and writers; ``table.py`` lists
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protos.contract.ids import RequestId
from protos.contract.stream import Usage
from router.domain.answer import AnswerHead, Chunk
from router.errors import AllsortsError
from router.http.dialects.collected import Collected
from router.http.dialects.shared.wish import Wish
from router.state.rows import ResponseRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A wish, and how its answer is to be delivered. ``writing`` makes the writer of this call's answer."""

    wish: Wish
    stream: bool
    writing: "Callable[[Told], Writer]"
    ignored: tuple[str, ...] = ()  # fields of the body that had no effect
    keep_alive_s: float | None = None  # after its last use the model is to stay loaded so long; None: not asked
    count_only: bool = False  # the prompt's tokens are all that is asked for
    turn: "Turn | None" = None  # of a conversation that is kept here


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an answer says of itself, whatever it says."""

    request_id: RequestId
    model: str
    head: AnswerHead  # of the first that a worker accepted
    created: int  # seconds since 1970
    prompt_of: tuple[int, ...]  # which prompt each of the answers answers
    elapsed_s: Callable[[], float]  # seconds since the request came
    waited_s: float  # of those, until a worker took it
    ttft_s: Callable[[], float | None] = lambda: None  # of those, until the first output went out


class Turn(Protocol):
    """A call that may go on from an answer that was kept, and be kept itself."""

    previous: str  # the answer it goes on from; empty: none

    def resumed(self, earlier: ResponseRow) -> Wish:
        """What is asked, behind what was said before. Raises InvalidRequest."""
        ...

    def kept(self) -> ResponseRow | None:
        """Once the answer is complete: what is to be kept of it; None: nothing."""
        ...


class Writer(Protocol):
    """Writes one answer, whole or as a stream. ``index``: which of the answers."""

    def opening(self) -> bytes:
        """What comes before the first output, and goes out together with it."""
        ...

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        """New output; empty bytes when it says nothing. Not called for the end."""
        ...

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:
        """The last chunk of an answer, with what it still brings, and this answer's usage."""
        ...

    def closing(self, usage: Usage) -> bytes:
        """After the last answer's end; the usage of all."""
        ...

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """The body of an answer that is not streamed."""
        ...


class Dialect(Protocol):
    """One way in. Stateless, but for decoders."""

    name: str
    id_prefix: str  # of request ids, as this API's clients know them
    stream_type: bytes  # content type of a stream
    sign_of_life: bytes  # says nothing, while a long prompt is read; empty: there is no such thing
    any_type: bool  # its clients do not say that their bodies are JSON

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        ...

    def error(self, error: AllsortsError) -> bytes:
        """The body of an error."""
        ...

    def error_event(self, error: AllsortsError) -> bytes:
        """The same, in a stream that is already under way: its end."""
        ...
