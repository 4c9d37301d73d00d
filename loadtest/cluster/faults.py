"""What is done to the cluster while streams run, and what must be true again afterwards."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.chaos.pool import SIMULATED
from loadtest.chaos.waiting import NotReached, until
from loadtest.cluster.judge import AWQ
from loadtest.cluster.pool import AWQ_FOLDER, GPU_LABEL, GPUS, JOINED, ClusterPool

REDIS_AWAY_S = 20.0
RESTORED_WITHIN_S = 120.0
MISSED_WITHIN_S = 30.0
DRAIN_S = 2.0
NODE_GOES_IN_S = 300.0
ACTORS = 2  # simulated workers on nodes with GPUs
SECOND = "second"
GPU_A = 1


@dataclass(slots=True)
class Stage:
    """What a fault works on, and notes it leaves for the row."""

    pool: ClusterPool
    profile: Path  # that actors' workers serve
    vllm: bool = True  # one of them is vLLM
    notes: dict[str, Any] = field(default_factory=dict)

    def wanted(self, *more: dict[str, Any], on: str = "") -> list[dict[str, Any]]:
        """The fleet's wish: simulated workers on nodes with GPUs (or on this one), and vLLM on the second of them."""
        simulated = self.model(SIMULATED, self.profile, ACTORS + 1, on=on)  # with the one that joined
        if not self.vllm:
            return [simulated, *more]
        awq = self.model(AWQ, AWQ_FOLDER.absolute(), 1, on="gpu-b")
        awq |= {"engine": "vllm", "context": 512, "slots": 2}
        awq["sources"][0]["quantization"] = "awq"
        return [simulated, awq, *more]

    def model(self, name: str, path: Path, copies: int, *, on: str = "") -> dict[str, Any]:
        """Of one model; a simulated one, as it stands."""
        return {
            "name": name,
            "sources": [{"path": str(path), "quantization": "q8_0"}],
            "engine": "simulated",
            "context": 8192,
            "slots": 96,
            "labels": {"allsorts.node": on} if on else GPU_LABEL,
            "copies": {"min": copies, "max": copies},
        }

    def second(self, on: str = "") -> dict[str, Any]:
        """One more model."""
        return self.model(SECOND, self.pool.profile(SECOND, "h100-sxm", 0.09), 1, on=on)

    async def all_there(self) -> None:
        """Until every worker is ready wherever one asks. Raises NotReached."""
        await self.actors(SIMULATED, ACTORS)
        await self.actors(AWQ, int(self.vllm))

    async def actors(self, model: str, count: int, within_s: float = RESTORED_WITHIN_S) -> None:
        """Until so many of this model, and those that joined, are ready wherever one asks. Raises NotReached."""

        async def there() -> bool:
            found = await self.pool.actors(model)
            return len(found) == count and await self.pool.ready(found | JOINED)

        await until(there, within_s, f"{count} of {model} as actors and all that joined are ready")

    async def stands_on(self, model: str, *nodes: str) -> None:
        """Until workers of this model run on these nodes with GPUs and on no other. Raises NotReached."""

        async def there() -> bool:
            return all(self.pool.holds(one, model) == (one in nodes) for one in GPUS.values())

        await until(there, RESTORED_WITHIN_S, f"{model} runs on {' and '.join(nodes) or 'no node'}")


Act = Callable[[Stage], Awaitable[None]]


async def nothing(_: Stage) -> None:
    """As it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``prepare`` comes before the streams, ``strike`` does it, ``restored`` waits until the state is as it is wanted,
    ``after`` mends what the next fault needs.
    """

    name: str
    strike: Act
    restored: Act
    prepare: Act = nothing
    after: Act = nothing
    second: bool = False  # some streams are of the second model
    breaks_streams: bool = False  # those of a router replica that is killed


async def as_wanted(stage: Stage) -> None:
    """Those that went were missed, and every worker is there again."""

    async def missed() -> bool:
        return len(await stage.pool.actors(SIMULATED)) < ACTORS

    await until(missed, MISSED_WITHIN_S, "the router misses the workers that went")
    await stage.all_there()


async def crash_actor(stage: Stage) -> None:
    """SIGKILL to the processes of actors; their workers go with them."""
    killed = stage.pool.kill("gpu-a", "ray::WorkerActor")
    if not killed:
        raise NotReached("no worker actor runs on gpu-a")
    stage.notes["killed"] = killed


async def kill_controller(stage: Stage) -> None:
    """SIGKILL to the fleet controller's process."""
    nodes = stage.pool.cluster.nodes
    killed = sum(stage.pool.kill(node, "ray::Controller") for node in nodes)
    if not killed:
        raise NotReached("the fleet controller runs nowhere")
    stage.notes["killed"] = killed


async def controller_back(stage: Stage) -> None:
    """Another one runs, and the fleet is as it was."""

    async def there() -> bool:
        return any(stage.pool.processes(node, "ray::Controller") for node in stage.pool.cluster.nodes)

    await until(there, RESTORED_WITHIN_S, "another fleet controller runs")
    await stage.all_there()


async def kill_router(stage: Stage) -> None:
    """SIGKILL to the router replica beside which nothing else of the router runs."""
    if not stage.pool.kill("edge", "ray::ServeReplica"):
        raise NotReached("no router replica runs on the second router node")


async def router_back(stage: Stage) -> None:
    """Serve started another, and every worker dialled it."""

    async def there() -> bool:
        return bool(stage.pool.processes("edge", "ray::ServeReplica"))

    await until(there, RESTORED_WITHIN_S, "a router replica runs on the second router node again")
    await stage.all_there()


async def stop_redis(stage: Stage) -> None:
    """Gone for 20 s; a change is asked for meanwhile."""
    await asyncio.to_thread(stage.pool.redis.stop)
    await asyncio.sleep(REDIS_AWAY_S / 2)
    status, text = await stage.pool.ask("POST", "/admin/cordon", {"node": "joined-1"})
    stage.notes["cordon_while_away"] = f"{status} {text[:200]}"
    if status < 500:
        raise NotReached(f"a change was not refused while Redis was away: {status} {text[:200]}")
    await asyncio.sleep(REDIS_AWAY_S / 2)
    await asyncio.to_thread(stage.pool.redis.start)


async def flush_redis(stage: Stage) -> None:
    """A decision is made, and then everything in it is lost."""
    status, text = await stage.pool.ask("POST", "/admin/cordon", {"node": "joined-1"})
    if status != 200:
        raise NotReached(f"joined-1 was not cordoned: {status} {text[:200]}")
    await asyncio.sleep(2.0)
    await asyncio.to_thread(stage.pool.redis.flush)


async def decisions_back(stage: Stage) -> None:
    """Redis holds the cordon again, and takes the next change."""

    async def holds() -> bool:
        def read() -> bool:
            with stage.pool.redis.client() as client:
                values: Any = client.hgetall("allsorts:worker")
                return any(b'"cordoned":true' in value for value in values.values())

        with contextlib.suppress(OSError):
            return await asyncio.to_thread(read)
        return False

    await until(holds, RESTORED_WITHIN_S, "Redis holds what was decided before it was flushed")
    await redis_used(stage)


async def redis_used(stage: Stage) -> None:
    """A change is taken, and everybody serves."""

    async def taken() -> bool:
        return (await stage.pool.ask("POST", "/admin/undrain", {"node": "joined-1"}))[0] == 200

    await until(taken, RESTORED_WITHIN_S, "a change is taken again")
    await stage.all_there()


async def drain_worker(stage: Stage) -> None:
    """An operator drains a worker on a GPU node, with a deadline shorter than the answers."""
    node = min(await stage.pool.actors(SIMULATED))
    stage.notes["drained"] = node
    status, text = await stage.pool.ask("POST", "/admin/drain", {"node": node, "deadline_s": DRAIN_S})
    if status != 200:
        raise NotReached(f"{node} was not drained: {status} {text[:200]}")


async def undrain(stage: Stage) -> None:
    """Its streams have moved; it is taken back."""
    await asyncio.sleep(DRAIN_S + 2.0)
    for _ in range(6):  # whichever replica is met: each has to be told of a drain's end by its own worker's session
        await stage.pool.ask("POST", "/admin/undrain", {"node": stage.notes["drained"]})
    await stage.all_there()


async def add_model(stage: Stage) -> None:
    """One more is wanted, on the first GPU node."""
    await stage.pool.want(stage.wanted(stage.second("gpu-a")))


async def added(stage: Stage) -> None:
    """It serves there."""
    await stage.stands_on(SECOND, "gpu-a")
    await stage.actors(SECOND, 1)


async def second_there(stage: Stage) -> None:
    """The model that is moved or removed serves."""
    await add_model(stage)
    await added(stage)


async def move_model(stage: Stage) -> None:
    """It is wanted on the other GPU node."""
    await stage.pool.want(stage.wanted(stage.second("gpu-b")))


async def moved(stage: Stage) -> None:
    """It serves there, and not where it was any more."""
    await stage.stands_on(SECOND, "gpu-b")
    await stage.actors(SECOND, 1)


async def remove_model(stage: Stage) -> None:
    """It is not wanted any more."""
    await stage.pool.want(stage.wanted())


async def removed(stage: Stage) -> None:
    """No node holds it; all others serve."""
    await stage.stands_on(SECOND)
    await stage.all_there()


async def all_on_a(stage: Stage) -> None:
    """Every simulated actor on the node that goes; those wishes are then any GPU node's again."""
    await stage.pool.want(stage.wanted(on="gpu-a"))
    await stage.stands_on(SIMULATED, "gpu-a")
    await stage.all_there()
    await stage.pool.want(stage.wanted())


async def drain_ray_node(stage: Stage) -> None:
    """Ray is told that a GPU node goes; nobody kills anything."""
    await asyncio.to_thread(stage.pool.cluster.drain, "gpu-a", NODE_GOES_IN_S)


async def moved_away(stage: Stage) -> None:
    """The other one serves all that is wanted, and nothing runs on the node that goes."""
    await stage.stands_on(SIMULATED, "gpu-b")
    await stage.all_there()


async def node_back(stage: Stage) -> None:
    """The machine ends, and comes again with one actor on it."""
    if stage.pool.cluster.nodes["gpu-a"].alive:
        await asyncio.to_thread(stage.pool.cluster.nodes["gpu-a"].stop)
    await asyncio.to_thread(stage.pool.cluster.start, GPU_A)


async def kill_raylet(stage: Stage) -> None:
    """A GPU node loses power, and all that runs on it."""
    await asyncio.to_thread(stage.pool.cluster.nodes["gpu-a"].kill)


def faults() -> list[Fault]:
    """In this order."""
    crashed = Fault(name="worker actor crashed", prepare=all_on_a, strike=crash_actor, restored=as_wanted)
    away = Fault(name="Redis stopped for 20 s", strike=stop_redis, restored=redis_used)
    return [
        crashed,
        away,
        Fault(name="Redis flushed", strike=flush_redis, restored=decisions_back),
        Fault(name="router replica killed", strike=kill_router, restored=router_back, breaks_streams=True),
        Fault(name="controller killed", strike=kill_controller, restored=controller_back),
        Fault(name="worker drained", strike=drain_worker, restored=undrain),
        Fault(name="model added", strike=add_model, restored=added),
        Fault(name="model moved", prepare=second_there, strike=move_model, restored=moved, second=True),
        Fault(name="model removed", prepare=second_there, strike=remove_model, restored=removed),
        Fault(name="node drained", prepare=all_on_a, strike=drain_ray_node, restored=moved_away, after=node_back),
        Fault(name="raylet killed", prepare=all_on_a, strike=kill_raylet, restored=as_wanted, after=node_back),
    ]
