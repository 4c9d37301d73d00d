"""What is done to the cluster while streams run, and what must be true again afterwards."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.chaos.pool import SIMULATED
from loadtest.chaos.waiting import NotReached, until
from loadtest.cluster.pool import GPU_LABEL, ClusterPool

REDIS_AWAY_S = 20.0
RESTORED_WITHIN_S = 120.0
DRAIN_S = 2.0
JOINED = {"joined-1", "joined-2"}


@dataclass(slots=True)
class Stage:
    """What a fault works on, and notes it leaves for the row."""

    pool: ClusterPool
    profile: Path  # that actors' workers serve
    notes: dict[str, Any] = field(default_factory=dict)

    def wanted(self, copies: int, *more: dict[str, Any]) -> list[dict[str, Any]]:
        """The fleet's wish: so many simulated workers on nodes with GPUs, beside those that joined."""
        return [self.model(SIMULATED, self.profile, copies + len(JOINED)), *more]

    def model(self, name: str, profile: Path, copies: int) -> dict[str, Any]:
        """Of one model."""
        return {
            "name": name,
            "sources": [{"path": str(profile), "quantization": "q8_0"}],
            "engine": "simulated",
            "context": 8192,
            "slots": 96,
            "labels": GPU_LABEL,
            "copies": {"min": copies, "max": copies},
        }

    async def actors(self, count: int) -> None:
        """Until so many of them, and those that joined, are ready wherever one asks. Raises NotReached."""

        async def there() -> bool:
            found = await self.pool.actors()
            return len(found) == count and await self.pool.ready(found | JOINED)

        await until(
            there, RESTORED_WITHIN_S, f"{count} workers as actors and both that joined are ready at both routers"
        )


Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``strike`` does it, ``restored`` waits until the state is as it is wanted."""

    name: str
    strike: Act
    restored: Act
    breaks_streams: bool = False  # those of a router replica that is killed


async def both(stage: Stage) -> None:
    """Two actors, two joined workers."""
    await stage.actors(2)


async def crash_actor(stage: Stage) -> None:
    """SIGKILL to the process of one actor; its worker goes with it."""
    killed = stage.pool.kill("gpu-a", "ray::WorkerActor") or stage.pool.kill("gpu-b", "ray::WorkerActor")
    if not killed:
        raise NotReached("no worker actor runs on a GPU node")
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
    await both(stage)


async def kill_router(stage: Stage) -> None:
    """SIGKILL to the router replica beside which nothing else of the router runs."""
    if not stage.pool.kill("edge", "ray::ServeReplica"):
        raise NotReached("no router replica runs on the second router node")


async def router_back(stage: Stage) -> None:
    """Serve started another, and every worker dialled it."""

    async def there() -> bool:
        return bool(stage.pool.processes("edge", "ray::ServeReplica"))

    await until(there, RESTORED_WITHIN_S, "a router replica runs on the second router node again")
    await both(stage)


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
    await both(stage)


async def drain_node(stage: Stage) -> None:
    """An operator drains a worker on a GPU node, with a deadline shorter than the answers."""
    node = min(await stage.pool.actors())
    stage.notes["drained"] = node
    status, text = await stage.pool.ask("POST", "/admin/drain", {"node": node, "deadline_s": DRAIN_S})
    if status != 200:
        raise NotReached(f"{node} was not drained: {status} {text[:200]}")


async def undrain(stage: Stage) -> None:
    """Its streams have moved; it is taken back."""
    await asyncio.sleep(DRAIN_S + 2.0)
    for _ in range(6):  # whichever replica is met: each has to be told of a drain's end by its own worker's session
        await stage.pool.ask("POST", "/admin/undrain", {"node": stage.notes["drained"]})
    await both(stage)


async def change_models(stage: Stage) -> None:
    """One more model is wanted; then it is not wanted any more."""
    second = stage.pool.profile("second", "h100-sxm", 0.02)
    await stage.pool.want(stage.wanted(2, stage.model("second", second, 1)))
    await stage.actors(3)
    await stage.pool.want(stage.wanted(2))


async def kill_raylet(stage: Stage) -> None:
    """A GPU node loses power, and all that runs on it."""
    await asyncio.to_thread(stage.pool.cluster.nodes["gpu-a"].kill)


def faults() -> list[Fault]:
    """In this order: what takes a node away is the last."""
    return [
        Fault(name="worker actor crashed", strike=crash_actor, restored=both),
        Fault(name="Redis stopped for 20 s", strike=stop_redis, restored=redis_used),
        Fault(name="Redis flushed", strike=flush_redis, restored=decisions_back),
        Fault(name="router replica killed", strike=kill_router, restored=router_back, breaks_streams=True),
        Fault(name="controller killed", strike=kill_controller, restored=controller_back),
        Fault(name="node drained", strike=drain_node, restored=undrain),
        Fault(name="model added and removed", strike=change_models, restored=both),
        Fault(name="raylet killed", strike=kill_raylet, restored=both),
    ]
