"""A worker as the router knows it."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware


class WorkerState(StrEnum):
    """Where a worker stands in its life; the transitions are in ``router.fleet.lifecycle``."""

    ENROLLED = "enrolled"
    LOADING = "loading"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    ASLEEP = "asleep"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProfile:
    """Who a worker is: what does not change while its process lives."""

    worker_id: WorkerId
    incarnation: str
    node: str
    hardware: Hardware
    engine: str
    engine_version: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""
    version: str = ""
    protocol_version: int = 1
    draft_address: str = ""  # where it listens as a draft; empty: it serves requests
    takes_models: bool = False  # an operator decides what is loaded there
    memory_limit_bytes: int = 0  # all its models together, by its owner; 0: what the hardware lets it
