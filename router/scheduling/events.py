"""What the scheduler hears and what it answers. Values; times are monotonic seconds and travel beside them."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Refusal
from router.domain.placement import NoCandidate, Outcome, Placed
from router.domain.request import InferenceRequest

# ---------------------------------------------------------------- in


class Fault(StrEnum):
    """What an attempt's end says of its worker."""

    NONE = "none"
    FAILURE = "failure"  # it crashed, hung or was cut off: forgiven by the next answer
    MODEL = "model"  # its engine erred: the same, for this model alone
    BREACH = "breach"  # it broke a rule of the contract: owed for


@dataclass(frozen=True, slots=True)
class Arrived:
    """A client's request."""

    request: InferenceRequest


@dataclass(frozen=True, slots=True)
class CommandSent:
    """The command of a ``Send`` went out under this number."""

    request_id: RequestId
    sequence: int


@dataclass(frozen=True, slots=True)
class WorkerAccepted:
    """The worker counted the prompt, exactly, and queued the request."""

    request_id: RequestId
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """The worker's no, before anything was computed. Its true load came before."""

    request_id: RequestId
    refusal: Refusal
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt is over: its answer is complete, or it broke off and the rest goes on elsewhere.

    Where it broke off, ``sent_tokens``: output tokens the client has, over all attempts; ``started``: it has anything;
    ``progressed``: this attempt brought a token; ``complete``: it broke off with nothing left to do.
    """

    request_id: RequestId
    outcome: Outcome
    reason: str = ""
    fault: Fault = Fault.NONE
    sent_tokens: int = 0
    started: bool = False
    progressed: bool = False
    complete: bool = False
    output_format: str = ""  # how thoughts and calls are marked in what the client has; empty: there are none


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """Nobody reads the answer any more, in whatever state the request is. Unknown ids are ignored."""

    request_id: RequestId
    outcome: Outcome | None = None  # of the attempt under way, where one is


@dataclass(frozen=True, slots=True)
class LoadReported:
    """A worker's new load stands in the fleet."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class CacheChanged:
    """A worker said which text blocks of a model it now holds, or no longer."""

    worker_id: WorkerId
    model: str
    quantization: str
    stored: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()
    cleared: bool = False


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker left with everything it had cached. Its attempts end one by one."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Tick:
    """Something in the fleet changed, or the time of a ``WakeAt`` has come."""


Event = (
    Arrived
    | CommandSent
    | WorkerAccepted
    | WorkerRefused
    | AttemptEnded
    | ClientLeft
    | LoadReported
    | CacheChanged
    | WorkerGone
    | Tick
)

# ---------------------------------------------------------------- out


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request there, now; capacity is claimed. ``request`` is what is left of it.

    ``max_queued_prefill_tokens``: the choice's precondition at the worker, 0 for none.
    """

    request: InferenceRequest
    placed: Placed
    attempt: int
    max_queued_prefill_tokens: int = 0

    @property
    def request_id(self) -> RequestId:
        """Shorthand."""
        return self.request.request_id


class ShedCode(StrEnum):
    """Why a request is refused without, or without another, dispatch."""

    UNKNOWN_MODEL = "unknown_model"
    NO_WORKER = "no_worker"  # nothing can ever take it as the pool stands, or nobody came back in time
    OUT_OF_REACH = "out_of_reach"  # an idle pool would miss its target
    OVERLOADED = "overloaded"  # the queue is full, or its target cannot be met now
    DEADLINE = "deadline"  # its time ran out while it waited
    RATE_LIMITED = "rate_limited"
    GAVE_UP = "gave_up"  # too many attempts or moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """Refuse this request, with the reason."""

    request_id: RequestId
    code: ShedCode
    reason: str
    retry_after_s: float | None = None
    no_candidate: NoCandidate | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A worker said what the client must change, and no other worker would say otherwise."""

    request_id: RequestId
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a ``Tick`` at this monotonic second, unless a later WakeAt says otherwise."""

    at: float


Instruction = Send | Shed | Reject | WakeAt
