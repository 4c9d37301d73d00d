"""The fleet controller: one detached, named actor that leads, whichever router replicas come and go.

It keeps no state. Once a second it asks a router replica for the next step (``Router.next_steps``): the replica looks
at the fleet, plans, and sends what concerns workers with a session; what concerns workers on this cluster's nodes the
controller does through a ``NodeRunner``. So it may die at any time: Ray starts it again, or the next replica that
misses it does, and no worker notices. While there is none, one replica leads by itself.
"""

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from router.fleet.node_runner import NodeRunner, NodeRunnerFailed, RayNode, RunningWorker
from router.fleet.planning.steps import Plan, StartWorker, Step, StopWorker

log = structlog.get_logger()

NAME = "fleet-controller"
NAMESPACE = "allsorts"
EVERY_S = 1.0
ANSWER_S = 10.0
"""Of one call to a router replica, or to the runner."""

NodesAndWorkers = tuple[tuple[RayNode, ...], tuple[RunningWorker, ...]]


class Leader:
    """``ask``: a router replica's next steps; ``runner`` None: nothing is started on this cluster's nodes."""

    def __init__(self, ask: Callable[[NodesAndWorkers], Awaitable[Plan]], runner: NodeRunner | None) -> None:
        self._ask = ask
        self._runner = runner

    async def once(self) -> None:
        """Look, ask, and do what is to be done on nodes. Raises whatever went wrong before anything was done."""
        seen = await self._cluster()
        ahead = await self._ask(seen)
        for step in ahead.steps:
            await self._do(step)

    async def forever(self) -> None:
        """Until the process ends."""
        while True:
            try:
                await self.once()
            except Exception as error:  # noqa: BLE001 - the edge: whatever is wrong now may be right in a second
                log.warning("controller.failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
            await asyncio.sleep(EVERY_S)

    async def _cluster(self) -> NodesAndWorkers:
        if self._runner is None:
            return (), ()
        async with asyncio.timeout(ANSWER_S):
            return await self._runner.nodes(), await self._runner.running()

    async def _do(self, step: Step) -> None:
        if self._runner is None or not isinstance(step, (StartWorker, StopWorker)):
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                if isinstance(step, StartWorker):
                    await self._runner.start(step.spec)
                else:
                    await self._runner.stop(step.name, step.drain_s)
        except (NodeRunnerFailed, TimeoutError) as error:
            name = step.spec.name if isinstance(step, StartWorker) else step.name
            log.warning("worker.not_changed", worker=name, reason=str(error) or "took too long")


class Controller:
    """The actor. ``application`` and ``deployment``: of the router in Serve; ``runner``: ``module:Class``, or empty."""

    def __init__(self, application: str, deployment: str, runner: str = "") -> None:
        self._application = application
        self._deployment = deployment
        leader = Leader(self._ask, _made(runner))
        threading.Thread(target=lambda: asyncio.run(leader.forever()), name="lead", daemon=True).start()

    async def _ask(self, seen: NodesAndWorkers) -> Plan:
        from ray import serve

        handle: Any = serve.get_deployment_handle(self._deployment, self._application)
        async with asyncio.timeout(ANSWER_S):
            answer: Plan = await handle.next_steps.remote(*seen)
        return answer


def _made(runner: str) -> NodeRunner | None:
    if not runner:
        return None
    module, _, name = runner.partition(":")
    made: NodeRunner = getattr(importlib.import_module(module), name)()
    return made


def ensure(application: str, deployment: str, runner: str = "") -> None:
    """Start the controller unless there is one. Blocks; called by whichever replica misses it."""
    import ray

    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Controller)
    options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    actor.options(**options).remote(application, deployment, runner)


def end() -> None:
    """End it for good, with the application. Blocks."""
    import ray

    try:
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return  # there is none
