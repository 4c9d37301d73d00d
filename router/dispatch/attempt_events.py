"""What an attempt's end says: a reason in words, and whose fault it was. Pure."""

from protos.contract.stream import Delta, FinishReason, Refusal, RefusalCode, Returned
from router.domain.stream import AttemptEvent, SessionLost
from router.scheduling.events import Fault


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


def fault_of(event: AttemptEvent) -> Fault:
    """What the circuit breaker should hear of an attempt that ended so.

    Output that ends an attempt, other than by an error, came before the request was accepted: a rule was broken.
    """
    match event:
        case Returned():
            return Fault.NONE
        case Refusal():
            return Fault.MODEL if event.code is RefusalCode.ENGINE_FAILED else Fault.NONE
        case SessionLost():
            return Fault.BREACH if event.breach else Fault.FAILURE
        case Delta():
            erred = event.finish_reason in (FinishReason.ERROR, FinishReason.ABORTED)
            return Fault.MODEL if erred else Fault.BREACH
        case _:
            return Fault.FAILURE
