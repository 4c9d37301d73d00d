"""One plan under way: who holds what, which nodes have their one change, and what was decided so far."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.fleet.desired.values import DesiredModel, DesiredState
from router.fleet.node_runner import WORKER_LABEL
from router.fleet.planning.observed import COMING, Copy, Node, Observed
from router.fleet.planning.ray_nodes import why_not_on
from router.fleet.planning.steps import Load, Plan, StartWorker, Step, StopWorker, Unload
from router.fleet.planning.ways import Known, acceptable, known_files, order_of, ways, why_not_there

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0
MAX_DOUBLINGS = 10

MIN_DUE_S = 0.02
"""Two looks are not closer than that: clocks are not exact."""


def model_of_worker(name: str) -> str:
    """Of a worker that was started for it.

    >>> model_of_worker("llama-3.1-8b@awq#2")
    'llama-3.1-8b'
    """
    return name.rpartition("#")[0].rpartition("@")[0]


class Board:
    """Mutable for the length of one plan."""

    def __init__(self, desired: DesiredState, observed: Observed) -> None:
        self.desired = desired
        self.observed = observed
        self.known: Known = known_files(observed)
        self.steps: list[Step] = []
        self.blocked: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self._taken: set[WorkerId] = {one.worker_id for one in observed.nodes if one.changing}
        self._due_s = math.inf
        self._started_on: set[str] = set()
        self._runs = {one.name: one for one in observed.ray_workers}
        self._ray_nodes = {one.node_id: one for one in observed.ray_nodes}
        self._unloaded: Counter[str] = Counter()  # serving copies that go by this very plan

    def plan(self) -> Plan:
        """What was decided."""
        return Plan(
            steps=tuple(self.steps), blocked=self.blocked, waiting=self.waiting, due_s=max(MIN_DUE_S, self._due_s)
        )

    def due(self, seconds: float) -> None:
        """Something can be done so much later."""
        self._due_s = min(self._due_s, seconds)

    # -- who holds what ----------------------------------------------------------------------------------------

    def copies(self, model: str) -> Iterator[tuple[Node, Copy]]:
        """Of a model, wherever they are."""
        for node in self.observed.nodes:
            for copy in node.copies:
                if copy.model == model:
                    yield node, copy

    def serving(self, model: str) -> list[tuple[Node, Copy]]:
        """Copies that take requests now, and do not go by this plan."""
        return [(node, copy) for node, copy in self.copies(model) if node.available and copy.ready]

    def serving_left(self, model: str) -> int:
        """How many those are when this plan is done."""
        return len(self.serving(model)) - self._unloaded[model]

    def coming(self, model: str) -> int:
        """Copies on their way."""
        started = sum(
            one.alive and model_of_worker(one.name) == model and not self.joined(one.name)
            for one in self._runs.values()
        )
        return started + sum(node.available and copy.instance.state in COMING for node, copy in self.copies(model))

    def good(self, model: DesiredModel, node: Node, copy: Copy) -> bool:
        """It is as the file says. What an owner chose is good at any quantization that is wanted."""
        instance = copy.instance
        if not instance.ordered:
            return acceptable(model, instance)
        if self.runs_there(node):
            wanted = {order_of(model, one.path or f"{one.repo}/{one.file}") for one in model.sources}
            return instance.ordered in wanted and not self.misplaced(model, node)
        if why_not_there(model, node):
            return False
        told = {one.order for one in ways(model, node, self.known, travels=self.observed.travels)}
        return instance.ordered in told

    def misplaced(self, model: DesiredModel, node: Node) -> str:
        """Why the node on which this worker was started is none for its model any more; empty: it is one."""
        worker = self._runs.get(self.runs_there(node))
        under = None if worker is None else self._ray_nodes.get(worker.node_id)
        return "" if under is None else why_not_on(model, under)

    def joined(self, name: str) -> bool:
        """A worker that was started has found its way here."""
        return any(node.labels.get(WORKER_LABEL) == name for node in self.observed.nodes)

    def runs_there(self, node: Node) -> str:
        """The name of the worker, where it was started for one model; empty: it joined by itself."""
        name = node.labels.get(WORKER_LABEL, "")
        return name if name in self._runs else ""

    # -- steps -------------------------------------------------------------------------------------------------

    def free(self, node: Node) -> bool:
        """Its one change is still to be had."""
        return node.worker_id not in self._taken

    def load(self, step: Load) -> None:
        """Decided."""
        self._taken.add(step.worker_id)
        self.steps.append(step)

    def unload(self, node: Node, copy: Copy, why: str, *, idle_s: float = 0.0) -> None:
        """Decided. ``idle_s``: should nobody have used it for so long, by the worker's own count."""
        self._taken.add(node.worker_id)
        if copy.ready and node.available:
            self._unloaded[copy.model] += 1
        if name := self.runs_there(node):
            self.steps.append(StopWorker(name=name, model=copy.model, drain_s=self.desired.rules.drain_s, why=why))
            return
        self.steps.append(
            Unload(
                worker_id=node.worker_id,
                node=node.node,
                model=copy.model,
                quantization=copy.instance.quantization,
                drain_s=self.desired.rules.drain_s,
                why=why,
                idle_s=idle_s,
            )
        )

    def start(self, step: StartWorker) -> None:
        """Decided."""
        self._started_on.add(step.spec.node_id)
        self.steps.append(step)

    def stop(self, name: str, why: str) -> None:
        """Decided, of a worker that has not joined, or ended."""
        drain_s = self.desired.rules.drain_s
        self.steps.append(StopWorker(name=name, model=model_of_worker(name), drain_s=drain_s, why=why))

    def free_ray_node(self, node_id: str) -> bool:
        """Nothing is started there by this plan yet."""
        return node_id not in self._started_on

    def free_worker_name(self, stem: str) -> str:
        """One that no worker has."""
        return next(name for number in itertools.count(1) if (name := f"{stem}#{number}") not in self._runs)

    # -- who may go --------------------------------------------------------------------------------------------

    def spare(self, copy: Copy, node: Node) -> bool:
        """Its model keeps the copies it must have without this one."""
        model = self.desired.model(copy.model)
        counts = copy.ready and node.available
        return model is None or not counts or self.serving_left(copy.model) - 1 >= model.copies.min

    def victims(self, node: Node, needs: float, *, for_s: float) -> list[Copy] | str:
        """What to unload there so that ``needs`` bytes are free, the least recently used first; or what is in the way.

        ``for_s``: how long those have waited who want the room; infinitesimal when nobody does.
        """
        missing = node.held_bytes + needs - node.usable_bytes
        freed, chosen, why = 0.0, list[Copy](), ""
        for copy in sorted(node.copies, key=lambda one: (self._busy(one), -one.unused_s)):
            if freed >= missing:
                break
            if why_not := self._why_it_stays(copy, node, for_s):
                why = why or why_not
                continue
            chosen.append(copy)
            freed += copy.needs_bytes
        if freed >= missing and math.isfinite(missing):
            return chosen
        return why or f"needs {needs / 2**30:.1f} GiB of {node.usable_bytes / 2**30:.1f}"

    def _busy(self, copy: Copy) -> bool:
        return copy.running > 0 or copy.model in self.observed.demand

    def _why_it_stays(self, copy: Copy, node: Node, for_s: float) -> str:
        model, rules = self.desired.model(copy.model), self.desired.rules
        name = f"{copy.model}@{copy.instance.quantization}"
        if not copy.instance.ordered:
            return f"{name} was chosen by its owner"
        if copy.instance.state is InstanceState.FAILED:
            return f"{name} takes no room"
        if model is not None and model.pin:
            return f"{name} is pinned"
        if not self.spare(copy, node):
            return f"{name} is one of the copies that must be there"
        if copy.resident_s < rules.residence_s:
            self.due(rules.residence_s - copy.resident_s)
            return f"later: {name} stays for {rules.residence_s - copy.resident_s:.0f} s more"
        if self._busy(copy) and min(copy.resident_s, for_s) < rules.turn_s:
            self.due(rules.turn_s - min(copy.resident_s, for_s))
            return f"later: {name} is busy, and has its turn"
        return ""

    def backing_off(self, node: Node, model: str, quantization: str) -> float:
        """Seconds until a load that failed there may be tried again; 0: now."""
        for copy in node.copies:
            if copy.model == model and copy.instance.quantization == quantization and copy.failures:
                wait = min(FIRST_RETRY_S * 2.0 ** min(copy.failures - 1, MAX_DOUBLINGS), LONGEST_RETRY_S)
                if copy.failed_s < wait:
                    self.due(wait - copy.failed_s)
                return max(0.0, wait - copy.failed_s)
        return 0.0
