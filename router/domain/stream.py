"""Everything that an attempt at a request can hear."""

from dataclasses import dataclass

from protos.contract.ids import RequestId
from protos.contract.stream import Accepted, Delta, Refusal, Returned


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLost:
    """The session that carried the attempt broke, fell silent, or its engine hangs; or the worker broke a rule."""

    request_id: RequestId
    attempt: int
    reason: str
    breach: bool = False  # it said what it must not say, or left out what it must


AttemptEvent = Accepted | Refusal | Delta | Returned | SessionLost
