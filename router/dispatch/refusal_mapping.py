"""What a worker's word means for the request: the client's own fault is raised, anything else is a reason."""

from protos.contract.ids import WorkerId
from protos.contract.stream import Delta, FinishReason, Refusal, RefusalCode, Returned
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter


def raise_if_clients_fault(
    refusal: Refusal, request: InferenceRequest, fleet: FleetSnapshot, tried: frozenset[WorkerId]
) -> None:
    """Raise what the client must change: a bad value at once, a limit only when no other worker goes further."""
    if refusal.code is RefusalCode.INVALID:
        raise InvalidRequest(refusal.message, param=refusal.parameter or None)
    if refusal.code not in (RefusalCode.CONTEXT_LENGTH, RefusalCode.UNSUPPORTED):
        return
    if _goes_further(refusal, request, fleet, tried):
        return
    if refusal.code is RefusalCode.CONTEXT_LENGTH:
        raise ContextLengthExceeded(refusal.message, param=refusal.parameter or "messages")
    raise UnsupportedParameter(refusal.message, param=refusal.parameter or None)


def reason_of(event: AttemptEvent) -> str:
    """Why an attempt ended without an answer, in a few words."""
    match event:
        case Refusal():
            return event.message
        case SessionLost() | Returned():
            return event.reason
        case Delta():
            return event.error or f"the worker ended the stream ({event.finish_reason})"
        case _:
            return f"unexpected answer {type(event).__name__}"


def workers_fault(event: AttemptEvent) -> bool:
    """Whether the circuit breaker should hear of an attempt that ended so."""
    if isinstance(event, Refusal):
        return event.code is RefusalCode.ENGINE_FAILED
    return not isinstance(event, Returned)


def is_breach(event: AttemptEvent) -> bool:
    """Whether the worker broke a rule of the contract rather than down. Output that ends an attempt, other than by an
    error, came before the request was accepted.
    """
    match event:
        case SessionLost():
            return event.breach
        case Delta():
            return event.finish_reason not in (FinishReason.ERROR, FinishReason.ABORTED)
        case _:
            return False


def _goes_further(
    refusal: Refusal, request: InferenceRequest, fleet: FleetSnapshot, tried: frozenset[WorkerId]
) -> bool:
    """Whether an untried worker of the model has a longer context than the one that refused."""
    return any(
        instance.context_tokens > refusal.context_tokens
        for worker in fleet.workers
        if worker.worker_id not in tried
        for instance in worker.models
        if instance.model == request.model.name
    )
