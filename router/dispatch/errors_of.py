"""What a client hears of a request that was refused: its own fault is a 4xx, the fleet's a 5xx."""

from collections.abc import Callable

from protos.contract.stream import Refusal, RefusalCode
from router.domain.placement import FilterName
from router.errors import (
    AllsortsError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    OutOfReach,
    RateLimited,
    Unavailable,
    UnknownModel,
    UnsupportedParameter,
    WorkerFailed,
)
from router.scheduling.events import Reject, Shed, ShedCode

LIMIT = "This model's maximum context length is"
"""How OpenAI begins it: LiteLLM and others recognise a prompt that is too long by these words."""


def error_of(refused: Shed | Reject) -> AllsortsError:
    """The error a client sees; that of a shed request carries what placement said of every worker."""
    if isinstance(refused, Reject):
        return _rejected(refused.refusal)
    error = _SHED[refused.code](refused)
    error.no_candidate = refused.no_candidate
    return error


def _rejected(refusal: Refusal) -> AllsortsError:
    if refusal.code is RefusalCode.CONTEXT_LENGTH:
        return ContextLengthExceeded(_too_long(refusal), param=refusal.parameter or "messages")
    if refusal.code is RefusalCode.UNSUPPORTED:
        return UnsupportedParameter(refusal.message, param=refusal.parameter or None)
    return InvalidRequest(refusal.message, param=refusal.parameter or None)


def _too_long(refusal: Refusal) -> str:
    """In OpenAI's words, alike whatever engine counted; the worker's own where it gave no counts."""
    prompt, answer, limit = refusal.prompt_tokens, refusal.max_tokens, refusal.context_tokens
    if not (prompt and limit):
        return f"{LIMIT} exceeded: {refusal.message}"
    where = "prompt" if refusal.parameter == "prompt" else "messages"
    if not answer:
        asked = f"your {where} resulted in {prompt} tokens. Please reduce the length of the {where}."
    else:
        asked = (
            f"you requested {prompt + answer} tokens ({prompt} in the {where}, {answer} in the completion). "
            f"Please reduce the length of the {where} or completion."
        )
    return f"{LIMIT} {limit} tokens. However, {asked}"


def _no_worker(shed: Shed) -> AllsortsError:
    """Waiting cures it, unless filters that never lift removed every worker of the model."""
    removed_by = set() if shed.no_candidate is None else shed.no_candidate.exclusions.filters()
    filters = removed_by - {FilterName.MODEL}  # empty: all workers of the model are gone
    if not filters or not all(one.lasting for one in filters):
        return _unavailable(shed)
    if all(one.from_model_name for one in filters):
        return UnknownModel(f"no worker serves the model as it is asked for: {shed.reason}", param="model")
    left = {one for one in filters if not one.from_model_name} - {FilterName.LABELS}
    if left == {FilterName.CONTEXT}:  # by the estimate, with room for its error: a worker would say the same
        longest = shed.no_candidate.longest_context if shed.no_candidate is not None else 0
        limit = (
            f"{longest} tokens; prompt and max_tokens need more" if longest else "less than prompt and max_tokens need"
        )
        return ContextLengthExceeded(f"{LIMIT} {limit}: {shed.reason}", param="max_tokens")
    if left == {FilterName.CAPABILITY}:
        return UnsupportedParameter(f"{_needs(shed)}: {shed.reason}")
    return OutOfReach(shed.reason)


def _needs(shed: Shed) -> str:
    """What nobody has of what the request needs."""
    found = shed.no_candidate
    if found is None:
        return "no worker of this model can do that"
    lacking = dict.fromkeys(what for one in found.exclusions for what in one.lacks)
    if not lacking:
        return f"nobody serving {found.model} can do that"
    them = "all of that" if len(lacking) > 1 else "them" if next(iter(lacking)).endswith("s") else "it"
    return f"needs {' and '.join(lacking)}; nobody serving {found.model} has {them}"


def _unavailable(shed: Shed) -> AllsortsError:
    return Unavailable(shed.reason, retry_after_s=shed.retry_after_s or 1.0)


_SHED: dict[ShedCode, Callable[[Shed], AllsortsError]] = {
    ShedCode.UNKNOWN_MODEL: lambda shed: UnknownModel(shed.reason, param="model"),
    ShedCode.NO_WORKER: _no_worker,
    ShedCode.OUT_OF_REACH: lambda shed: OutOfReach(shed.reason),
    ShedCode.OVERLOADED: _unavailable,
    ShedCode.DEADLINE: lambda shed: DeadlineExceeded(shed.reason, retry_after_s=shed.retry_after_s),
    ShedCode.RATE_LIMITED: lambda shed: RateLimited(shed.reason, retry_after_s=shed.retry_after_s),
    ShedCode.GAVE_UP: lambda shed: WorkerFailed(shed.reason),
}
