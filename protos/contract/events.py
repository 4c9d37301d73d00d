"""What a worker tells a router, beside the stream of each request."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.files.content import HeldModel
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
    files: tuple[ModelInstance, ...] = ()  # of a worker that takes models: what it could load


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftReport:
    """How a target gets on with the draft it was assigned. Counts since it was."""

    model: str  # of the target
    quantization: str
    draft_worker_id: WorkerId
    rounds: int = 0  # of one sequence each
    proposed: int = 0  # tokens of the draft that were verified
    accepted: int = 0
    late: int = 0  # rounds whose proposals came after their deadline, or never
    wasted_s: float = 0.0  # the draft's time for tokens that were not accepted
    rtt_s: float = 0.0  # 95th percentile, beside the draft's compute; 0: not measured yet
    token_s: float = 0.0  # the draft's compute for one token
    predicted_gain: float = 1.0  # against plain steps; 1: the governor has it off
    measured_gain: float = 0.0  # 0: not measured
    paused: str = ""  # why it is not asked now


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesHeld:
    """The models whose files lie on this machine, and how many bytes more may be put there."""

    models: tuple[HeldModel, ...] = ()
    room_bytes: int = 0
    shares: bool = False  # whether others may have them from here


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """A fetch that runs, has ended (``done_bytes`` = ``total_bytes``) or has failed (``error``)."""

    model: str
    quantization: str
    content: str = ""  # SHA-256; empty: not known yet
    done_bytes: int = 0
    total_bytes: int = 0  # 0: not known yet
    source: str = ""
    error: str = ""


WorkerEvent = (
    Hello
    | Step
    | Accepted
    | Refusal
    | Returned
    | ModelProgress
    | CacheChange
    | Leaving
    | ScoreResult
    | Pong
    | DraftReport
    | FilesHeld
    | FetchProgress
)
