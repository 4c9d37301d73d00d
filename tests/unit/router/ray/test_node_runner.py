"""What the fleet controller is told of nodes and of the workers on them, by a Ray that is not there."""

from typing import Any

import pytest
import ray

from router.fleet.node_runner import NodeRunnerFailed, WayIn, WorkerSpec
from router.ray import node_runner
from router.ray.node_runner import NAMESPACE, RayNodeRunner

SPEC = WorkerSpec(
    name="m-1", node_id="n1", engine="vllm", model="m", quantization="awq", path="/m", context_tokens=1, slots=1, gpus=2
)


async def answer(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


class Method:
    def __init__(self, value: Any, calls: list[Any]) -> None:
        self._value = value
        self._calls = calls

    def remote(self, *values: Any) -> Any:
        self._calls.append(values)
        return answer(self._value)


class Told:
    """A method that nobody waits for."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def remote(self, *values: Any) -> None:
        self._calls.append(values)


class Actor:
    """Says this of itself; ``stops`` hears what it was told."""

    def __init__(self, status: Any, gpus: int = 2) -> None:
        self.stops: list[Any] = []
        self.status = Method(status, [])
        self.gpus = Method(gpus, [])
        self.stop = Told(self.stops)


class Cluster:
    """Two nodes and some actors, in Ray's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actors: dict[str, Actor] = {}
        self.draining: set[str] = set()
        self.others = [{"name": "fleet-controller", "namespace": "allsorts"}]
        monkeypatch.setattr(ray, "nodes", self._nodes)
        monkeypatch.setattr(node_runner, "draining_nodes", lambda: frozenset(self.draining))
        monkeypatch.setattr(ray, "get_actor", self._get)
        monkeypatch.setattr(node_runner, "list_named_actors", self._listed)
        self.runner = RayNodeRunner()

    def _nodes(self) -> list[dict[str, Any]]:
        labels = {"allsorts.node": "gpu-a", "site": "lab", "ray.io/accelerator-type": "H100", "ray.io/node-id": "n1"}
        one = {"NodeID": "n1", "NodeManagerAddress": "10.0.0.1", "Alive": True, "Resources": {"GPU": 4.0}}
        return [
            {**one, "NodeID": "n2", "NodeManagerAddress": "10.0.0.2", "Resources": {}, "Labels": None},
            {**one, "Labels": labels},
            {**one, "NodeID": "n3", "NodeManagerAddress": "10.0.0.3", "Alive": False},
        ]

    def _get(self, name: str, namespace: str) -> Actor:
        if namespace != NAMESPACE or name not in self.actors:
            raise ValueError(name)
        return self.actors[name]

    def _listed(self, *, all_namespaces: bool) -> list[dict[str, str]]:
        assert all_namespaces
        return [*self.others, *({"name": name, "namespace": NAMESPACE} for name in self.actors)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


async def test_nodes_that_live_are_told_with_what_is_free_on_them(cluster: Cluster) -> None:
    """GPUs of workers that run there are not; Ray's own labels are no labels of ours."""
    cluster.actors["m-1"] = Actor(("n1", True, ""), gpus=3)
    await cluster.runner.running()
    first, second = await cluster.runner.nodes()
    assert (first.name, first.node_id, first.gpus, first.free_gpus, first.hardware) == ("gpu-a", "n1", 4, 1, "H100")
    assert first.labels == {"allsorts.node": "gpu-a", "site": "lab"}
    assert (second.name, second.gpus, second.labels) == ("10.0.0.2", 0, {})


async def test_a_node_that_is_drained_is_told_as_one(cluster: Cluster) -> None:
    """It lives as long as it takes."""
    cluster.draining = {"n2", "gone long ago"}
    assert [one.draining for one in await cluster.runner.nodes()] == [False, True]


async def test_workers_are_told_as_their_actors_say(cluster: Cluster) -> None:
    """One that was given up, with the reason; a controller is no worker."""
    cluster.actors = {"m-1": Actor(("n1", True, "")), "m-2": Actor(("n2", False, "it ended 6 times"))}
    found = {one.name: one for one in await cluster.runner.running()}
    assert set(found) == {"m-1", "m-2"}
    assert (found["m-1"].alive, found["m-2"].alive, found["m-2"].reason) == (True, False, "it ended 6 times")


@pytest.mark.parametrize(
    ("trouble", "stays"),
    [
        (ray.exceptions.ActorDiedError(), False),
        (ray.exceptions.ActorUnschedulableError("its node is gone"), False),
        (ray.exceptions.ActorUnavailableError("it starts again", b"\0" * 16), True),
        (TimeoutError(), True),
    ],
)
async def test_one_that_starts_again_is_there_one_that_died_is_not(
    cluster: Cluster, trouble: BaseException, stays: bool
) -> None:
    """Or the planner would start a second one beside it, or none for one that is lost."""
    cluster.actors["m-1"] = Actor(("n1", True, ""))
    await cluster.runner.running()
    cluster.actors["m-1"] = Actor(trouble)
    assert [one.name for one in await cluster.runner.running()] == (["m-1"] if stays else [])


async def test_stopping_waits_for_nobody_and_an_unknown_name_is_no_error(cluster: Cluster) -> None:
    """It drains by itself."""
    actor = cluster.actors["m-1"] = Actor(("n1", True, ""))
    await cluster.runner.stop("m-1", 7.0)
    await cluster.runner.stop("never-there", 7.0)
    assert actor.stops == [(7.0,)]


async def test_none_is_started_before_a_router_says_how_it_comes_in(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line; the planner goes on."""

    class Handle:
        way_in = Method(WayIn(), [])

    monkeypatch.setattr(node_runner.serve, "get_deployment_handle", lambda *_: Handle())
    with pytest.raises(NodeRunnerFailed, match="has not started yet"):
        await cluster.runner.start(SPEC)
