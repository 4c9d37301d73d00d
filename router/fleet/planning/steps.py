"""What a plan says to do, and what it cannot do and why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.contract.ids import WorkerId
from router.fleet.node_runner import WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Have a worker load a model. ``file``: as the worker is told it; ``urgent``: somebody waits."""

    worker_id: WorkerId
    node: str
    model: str
    quantization: str
    file: str
    context_tokens: int
    slots: int
    order: str
    needs_bytes: float
    why: str
    urgent: bool = False
    sources: tuple[str, ...] = ()  # the file is not there yet, and is fetched from one of these first


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Have a worker give a model up."""

    worker_id: WorkerId
    node: str
    model: str
    quantization: str
    drain_s: float
    why: str
    idle_s: float = 0.0  # only if nobody else used it for so long, either


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorker:
    """Have the node runner start a worker."""

    spec: WorkerSpec
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorker:
    """Have the node runner end one."""

    name: str
    model: str
    drain_s: float
    why: str


Step = Load | Unload | StartWorker | StopWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps that may be done at once, each on another node. ``blocked``: why a model lacks copies that no step brings,
    by its name; ``waiting``: what will be done later, and what it waits for.
    """

    steps: tuple[Step, ...] = ()
    blocked: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    due_s: float = math.inf  # until time alone lets something of it be done

    @property
    def settled(self) -> bool:
        """Nothing is left to do, or nothing can be done."""
        return not self.steps and not self.waiting
