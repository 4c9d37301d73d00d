"""What comes back from a worker while a request runs."""

from dataclasses import dataclass
from enum import StrEnum

from router.domain.ids import RequestId


class FinishReason(StrEnum):
    """Why a stream ended. ``stop`` and ``length`` are OpenAI's; the others never reach a client as such."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the worker counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Log-probability of one sampled token and of its likeliest rivals."""

    token_id: int
    token: bytes  # may be part of a character
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()  # (token id, bytes, logprob), best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """New output of one attempt: one or many tokens."""

    request_id: RequestId
    attempt: int
    position: int  # output tokens of this attempt before this delta
    text: str = ""
    token_ids: tuple[int, ...] = ()
    token_count: int = 0
    text_tokens: int = 0  # output tokens of this attempt whose text has been released
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""


class RefusalCode(StrEnum):
    """Why a worker did not take a request."""

    CONTEXT_LENGTH = "context_length"
    INVALID = "invalid"
    BUSY = "busy"
    DRAINING = "draining"
    MODEL_NOT_LOADED = "model_not_loaded"
    UNSUPPORTED = "unsupported"
    ENGINE_FAILED = "engine_failed"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A worker's no, before anything was computed. Its load arrives beside it, in the snapshot."""

    request_id: RequestId
    attempt: int
    code: RefusalCode
    message: str
    prompt_tokens: int = 0
    max_tokens: int = 0
    context_tokens: int = 0
    parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The worker counted the prompt and queued the request."""

    request_id: RequestId
    attempt: int
    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The worker gives a running request back: it drains or goes to sleep."""

    request_id: RequestId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLost:
    """The session that carried the attempt broke, fell silent, or its engine hangs; or the worker broke a rule."""

    request_id: RequestId
    attempt: int
    reason: str
    breach: bool = False  # it said what it must not say, or left out what it must


AttemptEvent = Accepted | Refusal | Delta | Returned | SessionLost
"""Everything an attempt can hear."""
