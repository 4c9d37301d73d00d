"""The fleet at one instant: all a placement may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import Load, ModelInstance
from router.domain.worker import WorkerProfile, WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Inflight:
    """Work this router replica dispatched that the worker's load does not show yet (summed)."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """One model of a worker that its circuit breaker holds back; the worker's other models go on."""

    until: float  # monotonic
    reason: str
    proving: bool = False  # half-open, and the one request that may prove it is under way


NOBODY: Mapping[tuple[str, str], SetAside] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker as this router replica sees it."""

    profile: WorkerProfile
    state: WorkerState
    models: tuple[ModelInstance, ...] = ()
    drafts: tuple[ModelInstance, ...] = ()  # that propose tokens to other workers, and serve no requests
    drafting: tuple[DraftReport, ...] = ()  # how its models get on with their drafts
    load: Load = field(default_factory=Load)
    inflight: Inflight = field(default_factory=Inflight)
    rtt_s: float = 0.0
    away_reason: str = ""  # why it takes no work, in its own words, while it is draining or asleep
    cordoned: bool = False
    suspended_until: float = 0.0  # circuit breaker: no placements before this monotonic second
    suspended_reason: str = ""
    probing: bool = False  # half-open: takes one request at a time
    set_aside: Mapping[tuple[str, str], SetAside] = field(default_factory=lambda: NOBODY)  # by model and quantization

    @property
    def worker_id(self) -> WorkerId:
        """Shorthand for the profile's id."""
        return self.profile.worker_id


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModel:
    """A model that an operator wants to be served: where nobody does, it is brought up for who asks."""

    quantizations: tuple[str, ...] = ()  # canonical; empty: any
    floor: str = ""  # canonical: lowest quantization for requests that name none
    blocked: str = ""  # why it does not come up; empty: it can


NOTHING_WANTED: Mapping[str, WantedModel] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSnapshot:
    """Immutable view of the fleet; ``taken_at`` is monotonic."""

    taken_at: float
    version: int
    workers: tuple[WorkerView, ...] = ()
    wanted: Mapping[str, "WantedModel"] = field(default_factory=lambda: NOTHING_WANTED)  # by an operator
    expected_models: frozenset[str] = frozenset()  # served before this router started: their workers may come back
