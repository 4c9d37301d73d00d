"""The fleet controller's turn: what it asks, and what it does with the answer."""

import pytest

from router.fleet.node_runner import NodeRunnerFailed, RayNode, RunningWorker, WorkerSpec
from router.fleet.planning.steps import Plan, StartWorker, Step, StopWorker
from router.ray.controller import Leader, NodesAndWorkers

NODE = RayNode(node_id="n1", name="gpu-1", gpus=1, free_gpus=1)
SPEC = WorkerSpec(
    name="m@awq#1", node_id="n1", engine="vllm", model="m", quantization="awq", path="/m", context_tokens=1, slots=1
)
START, STOP = StartWorker(spec=SPEC, why=""), StopWorker(name="m@awq#2", model="m", drain_s=3.0, why="")


class Runner:
    """Of one node; ``refuses``: starting fails."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.done: list[str] = []
        self._refuses = refuses

    async def nodes(self) -> tuple[RayNode, ...]:
        return (NODE,)

    async def running(self) -> tuple[RunningWorker, ...]:
        return (RunningWorker(name="m@awq#2", node_id="n1"),)

    async def start(self, spec: WorkerSpec) -> None:
        if self._refuses:
            raise NodeRunnerFailed("no GPU is free")
        self.done.append(f"start {spec.name}")

    async def stop(self, name: str, drain_s: float) -> None:
        self.done.append(f"stop {name} in {drain_s:g} s")


class Replica:
    """Answers with these steps, and keeps what it was told."""

    def __init__(self, *steps: Step) -> None:
        self._plan = Plan(steps=steps)
        self.seen: list[NodesAndWorkers] = []

    async def ask(self, seen: NodesAndWorkers) -> Plan:
        self.seen.append(seen)
        return self._plan


async def test_it_tells_of_nodes_and_workers_and_does_what_comes_back() -> None:
    """Everything a plan needs of the cluster goes there with each question: it keeps nothing."""
    runner, replica = Runner(), Replica(START, STOP)
    await Leader(replica.ask, runner).once()
    assert replica.seen == [((NODE,), (RunningWorker(name="m@awq#2", node_id="n1"),))]
    assert runner.done == ["start m@awq#1", "stop m@awq#2 in 3 s"]


async def test_a_step_that_fails_does_not_keep_the_next_one_back() -> None:
    """The planner sees that it was not done, and asks again."""
    runner = Runner(refuses=True)
    await Leader(Replica(START, STOP).ask, runner).once()
    assert runner.done == ["stop m@awq#2 in 3 s"]


async def test_without_a_runner_it_only_asks() -> None:
    """Machines that joined are all there is."""
    replica = Replica()
    await Leader(replica.ask, None).once()
    assert replica.seen == [((), ())]


async def test_a_replica_that_does_not_answer_is_asked_again() -> None:
    """Nothing is done meanwhile."""
    runner = Runner()

    async def ask(seen: NodesAndWorkers) -> Plan:
        del seen
        raise ConnectionError("no replica")

    with pytest.raises(ConnectionError):
        await Leader(ask, runner).once()
    assert not runner.done
