"""What a router tells a worker."""

from dataclasses import dataclass

from protos.contract.files.content import ModelContent
from protos.contract.ids import RequestId, WorkerId
from protos.contract.request import Job
from protos.contract.worker import Replica

POOL = "pool"
"""The source that is whoever in the pool has the files, the head's own folder among them."""


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
    """Load a model. With ``content`` it is that very model, fetched first where this machine lacks it; without, what
    lies at ``path``, or comes from ``sources``.
    """

    model: str
    quantization: str
    path: str = ""  # on this machine; empty: wherever its content lies there
    context_tokens: int = 0  # 0, as of slots: the engine's default
    slots: int = 0
    content: ModelContent | None = None
    sources: tuple[str, ...] = ()  # best first: POOL, a URL, or hf:OWNER/REPOSITORY/FILE; empty: POOL
    size_bytes: int = 0  # expected, where the content is not known; 0: nobody knows
    urgent: bool = False  # somebody waits for it: it is not measured first, unless that was done before
    order: str = ""  # comes back as ``ModelInstance.ordered``


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadModel:
    """Free a model. What runs may finish within ``deadline_s``; what is left then comes back as Returned. ``idle_s``:
    only if nothing ran for so long by the worker's own count, since other routers use it too.
    """

    model: str
    quantization: str
    deadline_s: float = 0.0
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchModel:
    """Put a model's files on this machine without loading it. Fields as LoadModel's."""

    model: str
    quantization: str
    content: ModelContent | None = None
    sources: tuple[str, ...] = ()
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveModel:
    """Delete a model's files from this machine. ``content``: the SHA-256 of its content."""

    model: str
    quantization: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFile:
    """Upload the file of this hash from ``offset`` on, as this transfer."""

    transfer: str
    sha256: str
    offset: int


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
    | FetchModel
    | RemoveModel
    | SendFile
    | Drain
    | Undrain
    | AssignDraft
    | DraftTargets
    | ReplicaList
    | Ping
    | Dismiss
    | Unknown
)
