"""An answer under way, as the HTTP edge reads it: who answers, chunks of output, and how it ended."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import FinishReason, TokenLogprob, Usage
from protos.contract.tools import ToolCallDelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """Known once a worker has accepted the request; goes into the response headers."""

    request_id: RequestId
    worker_id: WorkerId
    node: str
    model: str
    quantization: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """The stream moved to another worker after ``at_token`` output tokens."""

    from_node: str
    to_node: str
    from_quantization: str
    to_quantization: str
    at_token: int
    reason: str


class Chunk(Struct, frozen=True, kw_only=True, gc=False):
    """Whatever output was waiting: one or many tokens. The last chunk has ``finish_reason`` and ``usage``."""

    text: str = ""
    reasoning: str = ""
    token_count: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    echo: str = ""  # the prompt, when it was to be repeated; with the first chunk
    echo_logprobs: tuple[TokenLogprob, ...] = ()  # of the prompt's tokens; the first has none, and says 0
    vectors: tuple[tuple[float, ...], ...] = ()  # of an embedding, with the last chunk
    stopped_by: str = ""  # the stop string that ended it, with the last chunk
    finish_reason: FinishReason | None = None  # STOP, LENGTH or TOOL_CALLS only
    usage: Usage | None = None  # of the whole request, over all attempts
    continuations: tuple[Continuation, ...] = ()  # with the last chunk


Pour = Callable[[str, int], bool]
"""Takes plain text, and how many tokens it stands for, straight to the client. False: not now, nothing was taken."""


class Answer(Protocol):
    """One request being answered. Iterate it to its end, or ``aclose`` it: that aborts the generation."""

    @property
    def head(self) -> AnswerHead:
        """Who answers."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Chunks until the one with a finish reason; raises AllsortsError when the answer breaks off."""
        ...

    def pour_to(self, pour: Pour) -> None:
        """From the next chunk on plain text may go there instead: no chunk is made of it, and nobody is woken."""
        ...

    async def aclose(self) -> None:
        """Stop reading: aborts at the worker if still running. Idempotent."""
        ...
