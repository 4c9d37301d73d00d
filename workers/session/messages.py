"""What travels on a session, as plain values: commands from the router, events to it."""

from dataclasses import dataclass
from enum import StrEnum

from workers.engines.base import CacheChange, Job, LoadFigures, RefusalCode
from workers.facts import ModelReport, Replica

# ---------------------------------------------------------------- router -> worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The router's first word: who it is, which version both speak, who its siblings are."""

    replica_id: str
    protocol_version: int
    node: str
    replicas: tuple[Replica, ...]
    load_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Run one attempt."""

    job: Job
    draft_worker: str = ""
    most_pending_tokens: int = 0  # the router's condition, see ``workers.serving.precondition``; 0: none
    expected_prefill_tokens: int = 0  # the router's estimate, until the engine has counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Stop one attempt."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Log-probabilities of a text, or of given tokens."""

    request_id: str
    model: str
    quantization: str
    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """A vector for a text."""

    request_id: str
    model: str
    quantization: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """Load a model from a path on this machine."""

    model: str
    quantization: str
    path: str
    context_tokens: int
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadModel:
    """Free a model."""

    model: str
    quantization: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Finish what runs within ``deadline_s``; the rest goes back."""

    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Undrain:
    """Take work again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignDraft:
    """Which draft worker this target pulls proposals from; an empty address: none."""

    model: str
    quantization: str
    draft_address: str
    draft_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaList:
    """Every router replica there is now."""

    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Answer with a Pong at once."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismiss:
    """The router ends the session; permanent: do not come back."""

    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A command of a newer protocol: left alone."""


Command = (
    Welcome
    | Generate
    | Abort
    | Score
    | Embed
    | LoadModel
    | UnloadModel
    | Drain
    | Undrain
    | AssignDraft
    | ReplicaList
    | Ping
    | Dismiss
    | Unknown
)

# ---------------------------------------------------------------- worker -> router


class LeavingKind(StrEnum):
    """How a worker goes, or comes back."""

    BYE = "bye"
    SLEEPING = "sleeping"
    DRAINING = "draining"
    AWAKE = "awake"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Load figures with the time they were read and the last command seen from the replica they go to."""

    figures: LoadFigures
    observed_at_unix_s: float
    last_command: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccepted:
    """The job passed the exact count and stands in the engine's queue."""

    request_id: str
    attempt: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRefused:
    """The job is not taken; the true load goes along."""

    request_id: str
    attempt: int
    code: RefusalCode
    message: str
    prompt_tokens: int = 0
    max_tokens: int = 0
    context_tokens: int = 0
    parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReturned:
    """A running job goes back, as far as it got."""

    request_id: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProgress:
    """A model's state, and how far its current stage is (0..1)."""

    report: ModelReport
    fraction: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEvent:
    """Text blocks that became resident or went."""

    change: CacheChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The worker goes, or is back."""

    kind: LeavingKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """The answer to Score; ``error`` when there is none."""

    request_id: str
    logprobs: tuple[float, ...] = ()
    token_ids: tuple[int, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedResult:
    """The answer to Embed; ``error`` when there is none."""

    request_id: str
    values: tuple[float, ...] = ()
    prompt_tokens: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to Ping."""

    sequence: int


Event = JobAccepted | JobRefused | JobReturned | ModelProgress | CacheEvent | Leaving | ScoreResult | EmbedResult | Pong
