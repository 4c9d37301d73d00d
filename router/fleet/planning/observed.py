"""The fleet as the planner sees it: nodes, what they hold, who waits. Times are seconds before now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware, InstanceState, ModelInstance
from router.fleet.node_runner import RayNode, RunningWorker

COMING = frozenset({InstanceState.FETCHING, InstanceState.LOADING, InstanceState.BENCHMARKING})
HOLDS_MEMORY = frozenset({*COMING, InstanceState.READY, InstanceState.UNLOADING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One model on one worker."""

    instance: ModelInstance
    needs_bytes: float
    resident_s: float = 0.0  # since it was ready
    unused_s: float = 0.0  # since the last request for it ended; 0 while one runs
    running: int = 0
    failures: int = 0  # in a row, of loading it here
    failed_s: float = math.inf  # since the last of them

    @property
    def model(self) -> str:
        """Its public name."""
        return self.instance.model

    @property
    def ready(self) -> bool:
        """It serves."""
        return self.instance.state is InstanceState.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One worker. ``available``: it is there, takes work, and nobody keeps it out."""

    worker_id: WorkerId
    node: str
    engine: str
    hardware: Hardware
    labels: Mapping[str, str] = field(default_factory=dict)
    takes_models: bool = False
    available: bool = True
    usable_bytes: float = math.inf  # for all its models together
    files: tuple[ModelInstance, ...] = ()
    room_bytes: int = 0  # on its disk, for files that are fetched; 0: it fetches none
    copies: tuple[Copy, ...] = ()
    commanded: bool = False  # a step was sent, and the worker has not said anything of it yet

    @property
    def changing(self) -> bool:
        """One change at a time: the next one waits."""
        return self.commanded or any(
            one.instance.state in COMING or one.instance.state is InstanceState.UNLOADING for one in self.copies
        )

    @property
    def held_bytes(self) -> float:
        """What its models take."""
        return sum(one.needs_bytes for one in self.copies if one.instance.state in HOLDS_MEMORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Requests that wait for a model."""

    waiting: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a plan looks at. ``tries``: loads that failed, by worker, model and quantization, also of copies that
    are gone; ``keep_alive``: seconds that clients asked a model to stay after its last use.
    """

    nodes: tuple[Node, ...] = ()
    demand: Mapping[str, Demand] = field(default_factory=dict)
    keep_alive: Mapping[str, float] = field(default_factory=dict)
    ray_nodes: tuple[RayNode, ...] = ()
    ray_workers: tuple[RunningWorker, ...] = ()
    travels: Mapping[str, int] = field(default_factory=dict)  # files to be had from some machine: name, bytes
