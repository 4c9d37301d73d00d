"""Nodes on which workers are started and stopped, instead of joining by themselves: those of a Ray cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

WORKER_LABEL = "allsorts.worker"
"""A label that every worker started here carries: ``WorkerSpec.name``. By it the planner knows the worker again when it
has joined, and tells it from those that came by themselves.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """One node that workers can be started on. ``gpus`` and ``free_gpus`` as Ray counts them."""

    node_id: str
    name: str  # for people
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    free_gpus: int = 0
    hardware: str = ""  # its accelerator's name as Ray's label has it, such as "H100"; empty: not known
    memory_bytes: int = 0  # of one GPU; 0: not known
    draining: bool = False  # it is about to go: nothing is started there, what serves there goes elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """One worker to start. It serves ``model`` from the start, and nothing else."""

    name: str  # unique in the fleet, made by the planner from model, quantization and a number
    node_id: str
    engine: str
    model: str
    quantization: str
    path: str  # a folder, file or simulated profile on that node
    context_tokens: int
    slots: int
    gpus: int = 0  # tensor parallel within the node: one placement group, never spread
    labels: Mapping[str, str] = field(default_factory=dict)
    order: str = ""  # what its model reports as ``ModelInstance.ordered``


@dataclass(frozen=True, slots=True, kw_only=True)
class WayIn:
    """How a started worker comes in: where it dials, or where it is let in first and with what token, which is good
    for one key and a short time.
    """

    routers: tuple[str, ...] = ()
    enrol: str = ""  # empty: no certificate is needed
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWorker:
    """A worker that was started here, joined or not yet."""

    name: str
    node_id: str
    alive: bool = True  # False: it ended and is not started again by itself
    reason: str = ""  # why it is not alive; one line


class NodeRunner(Protocol):
    """Starts workers as actors.

    What is expected of an implementation:

    - every method returns within seconds, or raises ``NodeRunnerFailed`` with one clear line: nobody waits for a
      model to load here. A started worker dials the routers like any other and reports its own progress;
    - ``start`` is idempotent by ``spec.name``: a second one of a name that runs changes nothing. The worker gets the
      label ``WORKER_LABEL`` with that name, and survives whoever started it (detached actors): the controller dies and
      is restarted, and finds it by ``running``;
    - a worker that crashes is restarted by the runner, with back-off; ``running`` says ``alive=False`` only when that
      was given up;
    - ``stop`` lets it finish what runs for ``drain_s`` (it says ``draining`` to the routers), then ends it and frees
      its GPUs; a name that is not known is no error;
    - a node that is lost takes its workers with it: they are missing in ``running`` from then on, and the planner
      starts others where they fit.
    """

    async def nodes(self) -> tuple[RayNode, ...]:
        """What there is now."""
        ...

    async def running(self) -> tuple[RunningWorker, ...]:
        """Every worker that was started here and not stopped."""
        ...

    async def start(self, spec: WorkerSpec) -> None:
        """Start one."""
        ...

    async def stop(self, name: str, drain_s: float) -> None:
        """End one."""
        ...


class NodeRunnerFailed(Exception):
    """It was not done: one line. The planner tries again, later and later."""
