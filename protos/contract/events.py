"""What a worker tells a router, beside the stream of each request."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Accepted, Delta, Refusal, Returned
from protos.contract.worker import Load, ModelInstance, Profile


class LeavingKind(StrEnum):
    """How a worker goes, or comes back."""

    BYE = "bye"
    SLEEPING = "sleeping"
    DRAINING = "draining"
    AWAKE = "awake"  # back from sleep or drain on a session that stayed open


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A session's first event."""

    protocol_version: int
    oldest_protocol_version: int
    worker_id: WorkerId
    incarnation: str  # new at every start of the process
    profile: Profile
    models: tuple[ModelInstance, ...] = ()
    load: Load | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """New output of every running request, and the load when it changed."""

    deltas: tuple[Delta, ...] = ()
    load: Load | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProgress:
    """A model's state, and how far its current stage is (0..1)."""

    model: ModelInstance
    fraction: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheChange:
    """Text blocks (hashes as they came with jobs) that became resident or went."""

    model: str
    quantization: str
    stored: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()
    cleared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The worker goes, or is back."""

    kind: LeavingKind | None  # None: one that this version does not know
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """The answer to Score; ``error`` when there is none."""

    request_id: RequestId
    logprobs: tuple[float, ...] = ()  # of each scored token given those before it
    token_ids: tuple[int, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to Ping."""

    sequence: int


WorkerEvent = Hello | Step | Accepted | Refusal | Returned | ModelProgress | CacheChange | Leaving | ScoreResult | Pong
