"""One error root. Each error carries its code, HTTP status and data; edges translate, nobody else does."""

from typing import ClassVar

from router.domain.placement import NoCandidate


class AllsortsError(Exception):
    """Root of every error this project raises on purpose.

    ``code``, ``kind`` and ``http_status`` are what an OpenAI client sees; ``retryable`` says whether the
    same request may succeed later; ``param`` names the request parameter at fault. ``no_candidate`` is what placement
    said of every worker, where that was the reason: for operators, who may see more than clients.
    """

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.no_candidate: NoCandidate | None = None

    def waited(self, seconds: float) -> None:
        """Its client hears of it so much later: what was to be waited for has come nearer."""
        if self.retry_after_s is not None:
            self.retry_after_s = max(0.0, self.retry_after_s - seconds)


class InvalidRequest(AllsortsError):
    """A parameter is wrong; ``param`` names it."""

    code = "invalid_value"
    kind = "invalid_request_error"
    http_status = 400


class UnsupportedParameter(InvalidRequest):
    """A parameter that exists in the API but not here (yet)."""

    code = "unsupported_parameter"


class UnknownParameter(InvalidRequest):
    """A parameter that does not exist."""

    code = "unknown_parameter"


class ContextLengthExceeded(InvalidRequest):
    """Prompt plus output do not fit the model's context, by the worker's exact count."""

    code = "context_length_exceeded"


class NotAuthenticated(AllsortsError):
    """No key, or one that is not known."""

    code = "invalid_api_key"
    kind = "authentication_error"
    http_status = 401


class NotAllowed(AllsortsError):
    """The key lacks the scope."""

    code = "insufficient_scope"
    kind = "permission_error"
    http_status = 403


class NotFound(AllsortsError):
    """No such path or record."""

    code = "not_found"
    kind = "invalid_request_error"
    http_status = 404


class UnknownModel(NotFound):
    """No worker ever served this model, or none at the quantization that is asked for."""

    code = "model_not_found"


class MethodNotAllowed(AllsortsError):
    """The path exists, the method does not; ``allowed`` are those that do."""

    code = "method_not_allowed"
    kind = "invalid_request_error"
    http_status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTooLarge(AllsortsError):
    """The request body passes the configured limit."""

    code = "request_too_large"
    kind = "invalid_request_error"
    http_status = 413


class BodiesFull(AllsortsError):
    """The bodies of all requests together take what this server keeps for them."""

    code = "bodies_full"
    http_status = 503
    retryable = True

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the prompts of all requests together take the {limit_bytes} bytes this server keeps for them; try again",
            retry_after_s=1.0,
        )


class UnsupportedMedia(AllsortsError):
    """The body is not JSON by its own account."""

    code = "unsupported_media_type"
    kind = "invalid_request_error"
    http_status = 415


class BodyTooSlow(AllsortsError):
    """The request body did not arrive within its deadline."""

    code = "request_timeout"
    kind = "invalid_request_error"
    http_status = 408


class RateLimited(AllsortsError):
    """The tenant's own limit. ``limits`` are the headers that tell it how much of which limit is left."""

    code = "rate_limit_exceeded"
    kind = "rate_limit_error"
    http_status = 429
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        limits: tuple[tuple[bytes, bytes], ...] = (),
        asker: str = "",
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limits = limits
        self.asker = asker  # whose limit it is


class Unavailable(AllsortsError):
    """Nothing can take the request now; the message holds the reasons."""

    code = "no_capacity"
    kind = "service_unavailable"
    http_status = 503
    retryable = True


class OutOfReach(AllsortsError):
    """As the pool stands, nothing can ever serve this request, and waiting would not help: only its operator can."""

    code = "no_capacity"
    kind = "service_unavailable"
    http_status = 503


class DeadlineExceeded(Unavailable):
    """The request ran out of time before it could be answered."""

    code = "deadline_exceeded"
    http_status = 504


class WorkerFailed(Unavailable):
    """Every attempt failed at the workers."""

    code = "worker_failed"
    http_status = 502


class ConfigError(AllsortsError):
    """A configuration file, flag or environment value is wrong: what, where, what to do."""

    code = "bad_config"


class ClientGone(AllsortsError):
    """The client hung up; nobody is left to tell."""

    code = "client_gone"
    http_status = 499


class TooMuchHeld(Unavailable):
    """Answers under way took more memory than they may together, and this one held most."""

    code = "answer_memory_exhausted"

    def __init__(self, limit_bytes: int, held_bytes: int) -> None:
        super().__init__(
            f"answers under way take the {limit_bytes} bytes this router keeps for them, and this one took most "
            f"({held_bytes}); read faster, or ask for less at a time"
        )


def forget_frames(error: BaseException | None) -> None:
    """What was under way when it was raised, bodies and events among it, goes now: not when its sender has heard of it,
    nor when the collector comes by, as where the frame that raised it holds the task that keeps it.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
