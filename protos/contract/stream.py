"""What comes back from a worker while a request runs."""

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from protos.contract.ids import RequestId
from protos.contract.tools import ToolCallDelta
from protos.contract.worker import Load


class FinishReason(StrEnum):
    """Why a stream ended. The first three are OpenAI's; the others never reach a client as such."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Exact token counts, by the worker."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLogprob:
    """One of the likeliest tokens at a position."""

    token_id: int
    token: bytes  # may be part of a character
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Log-probability of a sampled token, under the model's own distribution (before temperature)."""

    token_id: int
    token: bytes  # may be part of a character
    logprob: float
    top: tuple[TopLogprob, ...] = ()  # best first


class Delta(Struct, frozen=True, kw_only=True, gc=False):
    """New output of one attempt: one or many tokens.

    ``text`` holds whole characters, and nothing that may yet turn out to belong to a stop string;
    ``text_tokens`` counts the output tokens whose text has been released so far.

    A struct, not a dataclass: one is made for each request and engine step at both ends, a fifteenth of the time.
    """

    request_id: RequestId
    attempt: int
    position: int  # output tokens of this attempt before this delta
    text: str = ""
    reasoning: str = ""  # what the model thinks before it answers; whole characters, like ``text``
    token_ids: tuple[int, ...] = ()  # when asked for
    token_count: int = 0
    text_tokens: int = 0
    finish_reason: FinishReason | None = None
    usage: Usage | None = None  # with the finish reason
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""  # one line, with FinishReason.ERROR
    tool_calls: tuple[ToolCallDelta, ...] = ()
    raw: str = ""  # the model's own output, where ``text`` does not say all of it; a continuation starts from it
    stopped_by: str = ""  # the stop string that ended it, with FinishReason.STOP
    echo: str = ""  # the prompt's text, when it is to be repeated: with the first delta that says anything
    echo_logprobs: tuple[TokenLogprob, ...] = ()  # of the prompt's tokens; the first has none, and says 0
    vectors: tuple[tuple[float, ...], ...] = ()  # the answer to an embedding, one for each input: with the last delta

    @property
    def plain(self) -> bool:
        """Whether it says text alone, in the middle of its stream: nearly every one."""
        return self.finish_reason is None and not (
            self.reasoning
            or self.logprobs
            or self.tool_calls
            or self.raw
            or self.echo
            or self.echo_logprobs
            or self.vectors
            or self.usage
            or self.error
            or self.stopped_by
        )


class RefusalCode(StrEnum):
    """Why a worker does not take a request."""

    CONTEXT_LENGTH = "context_length"
    INVALID = "invalid"
    BUSY = "busy"
    DRAINING = "draining"
    MODEL_NOT_LOADED = "model_not_loaded"
    UNSUPPORTED = "unsupported"
    ENGINE_FAILED = "engine_failed"
    CONFLICT = "conflict"  # not the engine's word: the router's condition does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A worker's no, before anything was computed, with its true load."""

    request_id: RequestId
    attempt: int
    code: RefusalCode
    message: str
    prompt_tokens: int = 0
    max_tokens: int = 0
    context_tokens: int = 0
    parameter: str = ""  # of the request, at fault
    load: Load | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The worker counted the prompt and queued the request."""

    request_id: RequestId
    attempt: int
    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The worker gives a running request back, as far as it got: it drains or goes to sleep."""

    request_id: RequestId
    attempt: int
    reason: str
