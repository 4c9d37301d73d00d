"""What a plan comes to, step after step, if all goes well: the difference that ``allsorts apply`` shows. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from protos.contract.worker import InstanceState, ModelInstance
from router.fleet.desired.values import DesiredState
from router.fleet.node_runner import WORKER_LABEL, RunningWorker
from router.fleet.planning.observed import COMING, Copy, Node, Observed
from router.fleet.planning.planner import plan
from router.fleet.planning.steps import Load, StartWorker, Step, StopWorker, Unload

MAX_ROUNDS = 2048
"""Far above what 256 models need; a plan that goes on and on would be a fault, and is cut here."""


class Doing(StrEnum):
    """What happens to a copy, as people see it."""

    LOAD = "load"
    UNLOAD = "unload"
    MOVE = "move"  # from one node to another
    RESTART = "restart"  # on the same node, loaded otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the difference. ``node``: where it ends up, or was; ``was``: where it came from."""

    doing: Doing
    model: str
    quantization: str
    node: str
    was: str = ""
    needs_bytes: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """All changes, and what will not come about and why, by model."""

    changes: tuple[Change, ...] = ()
    blocked: dict[str, str] = field(default_factory=dict)


def foresee(desired: DesiredState, observed: Observed) -> Foreseen:
    """Follow the plan to its end."""
    steps: list[Step] = []
    now = _finished(observed)
    ahead = plan(desired, now)
    for _ in range(MAX_ROUNDS):
        if not ahead.steps and not ahead.waiting:
            break
        before = now
        now = after(now, ahead.steps, later_s=desired.rules.residence_s + desired.rules.turn_s + 1.0)
        steps.extend(ahead.steps)
        ahead = plan(desired, now)
        if not ahead.steps and before == now:
            break
    return Foreseen(changes=tuple(_changes(steps)), blocked={**ahead.waiting, **ahead.blocked})


def after(observed: Observed, steps: Iterable[Step], *, later_s: float = 0.0) -> Observed:
    """The fleet once these steps are done, ``later_s`` later; nobody used anything meanwhile, nor failed to."""
    observed = _with_workers(observed, steps := tuple(steps))
    by_node: dict[str, list[Step]] = {}
    for step in steps:
        if isinstance(step, (Load, Unload)):
            by_node.setdefault(step.worker_id, []).append(step)
    return replace(
        observed, nodes=tuple(_after(node, by_node.get(node.worker_id, ()), later_s) for node in observed.nodes)
    )


def _after(node: Node, steps: Iterable[Step], later_s: float) -> Node:
    copies = [replace(one, resident_s=one.resident_s + later_s, failed_s=one.failed_s + later_s) for one in node.copies]
    for step in steps:
        if isinstance(step, (Load, Unload)):
            copies = [one for one in copies if one.instance.key != (step.model, step.quantization)]
        if isinstance(step, Load):
            copies.append(_loaded(node, step))
    return replace(node, copies=tuple(copies), commanded=False)


def _with_workers(observed: Observed, steps: Iterable[Step]) -> Observed:
    """With those that were started and stopped on nodes of a cluster. They count as started, joined or not."""
    running = {one.name: one for one in observed.ray_workers}
    free = {one.node_id: one.free_gpus for one in observed.ray_nodes}
    joined = {node.labels.get(WORKER_LABEL, ""): node for node in observed.nodes}
    for step in steps:
        if isinstance(step, StartWorker):
            running[step.spec.name] = RunningWorker(name=step.spec.name, node_id=step.spec.node_id)
            free[step.spec.node_id] -= step.spec.gpus
        elif isinstance(step, StopWorker):
            running.pop(step.name, None)
            joined.pop(step.name, None)
    ray_nodes = tuple(replace(one, free_gpus=free[one.node_id]) for one in observed.ray_nodes)
    gone = [node for name, node in _by_worker(observed) if name not in joined]
    nodes = tuple(node for node in observed.nodes if node not in gone)
    return replace(observed, nodes=nodes, ray_nodes=ray_nodes, ray_workers=tuple(running.values()))


def _by_worker(observed: Observed) -> list[tuple[str, Node]]:
    return [(name, node) for node in observed.nodes if (name := node.labels.get(WORKER_LABEL, ""))]


def _loaded(node: Node, step: Load) -> Copy:
    file = step.file.rpartition("/")[2]
    facts = next((one for one in node.files if one.file == file), ModelInstance(model="", quantization=""))
    instance = replace(
        facts,
        model=step.model,
        quantization=step.quantization,
        ordered=step.order,
        file=file,
        context_tokens=step.context_tokens,
        slots=step.slots,
        state=InstanceState.READY,
        error="",
    )
    return Copy(instance=instance, needs_bytes=step.needs_bytes)


def _finished(observed: Observed) -> Observed:
    """What is under way, as done."""
    nodes = []
    for node in observed.nodes:
        copies = [
            replace(one, instance=replace(one.instance, state=InstanceState.READY))
            if one.instance.state in COMING
            else one
            for one in node.copies
            if one.instance.state is not InstanceState.UNLOADING
        ]
        nodes.append(replace(node, copies=tuple(copies), commanded=False))
    return replace(observed, nodes=tuple(nodes))


def _of_worker(step: StartWorker | StopWorker) -> Change:
    if isinstance(step, StopWorker):
        quantization = step.name.rpartition("#")[0].rpartition("@")[2]
        return Change(doing=Doing.UNLOAD, model=step.model, quantization=quantization, node=step.name, why=step.why)
    spec = step.spec
    return Change(doing=Doing.LOAD, model=spec.model, quantization=spec.quantization, node=spec.name, why=step.why)


def _changes(steps: list[Step]) -> list[Change]:
    """Loads and unloads of one model told together, where they belong together."""
    gone = [one for one in steps if isinstance(one, Unload)]
    found = [_of_worker(one) for one in steps if isinstance(one, (StartWorker, StopWorker))]
    for step in steps:
        if not isinstance(step, Load):
            continue
        of_model = [one for one in gone if one.model == step.model]
        old = next((one for one in of_model if one.worker_id == step.worker_id), next(iter(of_model), None))
        doing, was = Doing.LOAD, ""
        if old is not None:
            gone.remove(old)
            here = old.worker_id == step.worker_id
            doing, was = (Doing.RESTART if here else Doing.MOVE), f"{old.node}@{old.quantization}"
        found.append(
            Change(
                doing=doing,
                model=step.model,
                quantization=step.quantization,
                node=step.node,
                was=was,
                needs_bytes=step.needs_bytes,
                why=(step.why if old is None else old.why) + ("; its file is fetched first" if step.sources else ""),
            )
        )
    found.extend(
        Change(doing=Doing.UNLOAD, model=one.model, quantization=one.quantization, node=one.node, why=one.why)
        for one in gone
    )
    return found
