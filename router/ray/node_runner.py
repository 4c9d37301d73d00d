"""Workers on the nodes of this Ray cluster: detached, named actors, one for each (``worker_actor.py``).

An actor is bound to its node by node affinity, and asks for all its GPUs at once: Ray gives them on that node together
or not at all, which is what a placement group of one bundle would do. It holds no CPU: a worker's threads are its
engine's matter. Lost with its node, it is not started elsewhere by Ray: the planner decides where its copy fits.
"""

import asyncio
from typing import Any

import ray
from ray import serve
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from router.fleet.node_runner import NodeRunnerFailed, RayNode, RunningWorker, WayIn, WorkerSpec
from router.ray.private import draining_nodes
from router.ray.worker_actor import WorkerActor

NAMESPACE = "allsorts-workers"
ANSWER_S = 5.0
ADDRESSES_S = 5.0

ACCELERATOR_LABEL = "ray.io/accelerator-type"
NAME_LABEL = "allsorts.node"
"""A node's name for people, where whoever started it gave one; otherwise its address."""

RAYS_OWN = "ray.io/"


class RayNodeRunner:
    """Implements ``router.fleet.node_runner.NodeRunner``. Made inside the fleet controller's actor."""

    def __init__(self, application: str = "allsorts", deployment: str = "router") -> None:
        self._application = application
        self._deployment = deployment
        self._last: dict[str, RunningWorker] = {}
        self._gpus: dict[str, int] = {}

    async def nodes(self) -> tuple[RayNode, ...]:
        """Those that live, by address."""
        found = await asyncio.to_thread(ray.nodes)
        going = await asyncio.to_thread(draining_nodes)
        return tuple(self._node(one, going) for one in sorted(found, key=_address) if one["Alive"])

    def _node(self, one: dict[str, Any], going: frozenset[str]) -> RayNode:
        labels, gpus = dict(one.get("Labels") or {}), int(one["Resources"].get("GPU", 0))
        mine = [name for name, worker in self._last.items() if worker.node_id == one["NodeID"] and worker.alive]
        return RayNode(
            node_id=one["NodeID"],
            name=labels.get(NAME_LABEL, one["NodeManagerAddress"]),
            labels={key: value for key, value in labels.items() if not key.startswith(RAYS_OWN)},
            gpus=gpus,
            free_gpus=max(0, gpus - sum(self._gpus.get(name, 0) for name in mine)),
            hardware=labels.get(ACCELERATOR_LABEL, ""),
            draining=one["NodeID"] in going,
        )

    async def running(self) -> tuple[RunningWorker, ...]:
        """Every actor of ours that Ray has; one that does not answer at once is as it was."""
        listed = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        names = sorted(one["name"] for one in listed if one["namespace"] == NAMESPACE)
        found = await asyncio.gather(*(self._status(name) for name in names))
        self._last = {one.name: one for one in found if one is not None}
        return tuple(self._last.values())

    async def _status(self, name: str) -> RunningWorker | None:
        try:
            actor: Any = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
            asked = asyncio.gather(actor.status.remote(), actor.gpus.remote())
            (node_id, alive, reason), gpus = await asyncio.wait_for(asked, ANSWER_S)
        except (ValueError, ray.exceptions.ActorDiedError, ray.exceptions.ActorUnschedulableError):
            return None  # it ended, or its node did
        except (TimeoutError, ray.exceptions.RayError):  # it starts, starts again, or its node is being lost
            return self._last.get(name)
        self._gpus[name] = gpus
        return RunningWorker(name=name, node_id=node_id, alive=alive, reason=reason)

    async def start(self, spec: WorkerSpec) -> None:
        """Ask Ray for the actor; nobody waits for its worker. Raises NodeRunnerFailed."""
        way_in = await self._way_in(spec)
        made: Any = ray.remote(WorkerActor)
        options = made.options(
            name=spec.name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            num_gpus=spec.gpus,
            max_restarts=-1,
            max_concurrency=4,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=spec.node_id, soft=False),
        )
        try:
            await asyncio.to_thread(options.remote, spec, way_in)
        except (ray.exceptions.RayError, ValueError) as error:
            raise NodeRunnerFailed(f"{spec.name}: {str(error).splitlines()[0]}") from None
        self._gpus[spec.name] = spec.gpus
        self._last.setdefault(spec.name, RunningWorker(name=spec.name, node_id=spec.node_id))

    async def stop(self, name: str, drain_s: float) -> None:
        """It drains by itself; the actor goes when its worker has gone."""
        try:
            actor: Any = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
        except ValueError:
            return  # there is none
        actor.stop.remote(drain_s)

    async def _way_in(self, spec: WorkerSpec) -> WayIn:
        handle: Any = serve.get_deployment_handle(self._deployment, self._application)
        try:
            async with asyncio.timeout(ADDRESSES_S):
                way: WayIn = await handle.way_in.remote(spec)
        except (TimeoutError, ray.exceptions.RayError) as error:
            said = str(error).strip().splitlines() or ["no answer"]
            raise NodeRunnerFailed(f"no router replica says how workers come in: {said[-1]}") from None
        if not (way.routers or way.enrol):
            raise NodeRunnerFailed("the router replica that was asked has not started yet")
        return way


def _address(node: dict[str, Any]) -> str:
    return str(node["NodeManagerAddress"])
