"""What a router tells a worker."""

from dataclasses import dataclass

from protos.contract.ids import RequestId, WorkerId
from protos.contract.request import Job
from protos.contract.worker import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The router's first word: who it is, which version both speak, who its siblings are."""

    replica_id: str
    protocol_version: int
    node: str
    replicas: tuple[Replica, ...]
    load_interval_s: float
    version: str = ""  # of the router's Allsorts


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Run one attempt."""

    job: Job
    max_queued_prefill_tokens: int = 0  # with more prompt tokens before it the worker answers CONFLICT; 0: none
    expected_prefill_tokens: int = 0  # the router's estimate, until the engine has counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Stop one attempt."""

    request_id: RequestId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Log-probabilities of a text, or of given tokens."""

    request_id: RequestId
    model: str
    quantization: str
    text: str
    token_ids: tuple[int, ...] = ()


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
    """Which draft worker this target pulls proposals from; an empty address: none any more."""

    model: str  # the target's own
    quantization: str
    draft_address: str  # host:port
    draft_length: int = 0  # tokens a round, at most; 0: the target decides
    draft_worker_id: WorkerId  # who must answer there
    draft_model: str = ""
    draft_quantization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftTargets:
    """To a draft: who may ask it. Replaces what this replica told before."""

    worker_ids: tuple[str, ...]


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


RouterCommand = (
    Welcome
    | Generate
    | Abort
    | Score
    | LoadModel
    | UnloadModel
    | Drain
    | Undrain
    | AssignDraft
    | DraftTargets
    | ReplicaList
    | Ping
    | Dismiss
    | Unknown
)
