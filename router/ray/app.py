"""The router as a Ray Serve application: a raw ASGI object inside the ingress replica, no second Serve hop.

A Serve config file imports ``router.ray.app:application``; ``allsorts serve`` binds its own configuration.
"""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray import serve
from uvicorn.config import HTTP_PROTOCOLS

from router.app import RouterNode
from router.config import RouterConfig, load_config
from router.configured import check_config
from router.fleet.node_runner import RayNode, RunningWorker, WayIn, WorkerSpec
from router.fleet.planning.steps import Plan
from router.http.streaming.direct_writes import DirectConnection
from router.http.streaming.outflow import Outflow
from router.limits import settle_heap
from router.ray import controller
from router.ray.node_address import at_node
from router.ray.private import keep_ports_at
from router.ray.settings import HTTP_HOST, OWN_CLUSTER
from router.telemetry.logging import configure_logging

APPLICATION = "allsorts"
DEPLOYMENT = "router"
RUNNER = "router.ray.node_runner:RayNodeRunner"
"""``module:Class`` of what starts workers on the cluster's nodes (``router.fleet.node_runner``); empty: nothing."""

MAX_ONGOING_REQUESTS = 16_384
"""Above every queue of the router's own: admission sheds with reasons, Serve must not."""


@serve.deployment(
    name=DEPLOYMENT,
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    graceful_shutdown_timeout_s=10,
    health_check_period_s=1,  # a replica that died is noticed, and the next one started, within about this time
    health_check_timeout_s=30,
    logging_config={"enable_access_log": False},  # a line for every request that says "POST / 200"
)
@serve.ingress()
class Router:
    """One router replica. Serve runs the ASGI lifespan, which starts and stops the node's gRPC server."""

    def __init__(self, config: dict[str, Any]) -> None:
        write_directly()
        address = "127.0.0.1" if os.environ.get(OWN_CLUSTER) else ray.util.get_node_ip_address()
        keep_ports_at(address, http=os.environ.get(HTTP_HOST, ""))
        self._config = at_node(msgspec.convert(config, RouterConfig), address)

    def __serve_build_asgi_app__(self) -> RouterNode:
        """Serve calls this once, after the constructor."""
        configure_logging(self._config.log_level)
        several = max(self._config.replicas, self._config.serve.replicas_most) > 1
        rank = serve.get_replica_context().rank
        self._node = RouterNode(
            self._config,
            rank=rank.rank,
            first_here=rank.local_rank == 0,
            siblings=several,
            controller=self._ensure_controller,
        )
        settle_heap()
        return self._node

    async def next_steps(self, nodes: tuple[RayNode, ...], workers: tuple[RunningWorker, ...]) -> Plan:
        """For the fleet controller (``router.ray.controller``): look, plan, and carry out what concerns sessions."""
        return await self._node.next_steps(nodes, workers)

    async def way_in(self, spec: WorkerSpec) -> WayIn:
        """For the fleet controller, which starts this worker on one of the cluster's nodes."""
        return await self._node.way_in(spec)

    @staticmethod
    async def _ensure_controller() -> None:
        runner = "" if os.environ.get(OWN_CLUSTER) else RUNNER
        await asyncio.to_thread(controller.ensure, APPLICATION, DEPLOYMENT, runner)


def write_directly() -> None:
    """Serve configures the HTTP server inside a replica by itself, with uvicorn's ``auto`` protocol, and has no setting
    for it: make that one our connection, so that a token's way out is as short here as without Ray. Runs before that
    server is configured; were it too late, streams would take the longer way and be no worse.
    """
    protocols: dict[str, Any] = HTTP_PROTOCOLS  # uvicorn takes a class as well as a name
    protocols["auto"] = partial(DirectConnection, outflow=Outflow())


def bind(config: RouterConfig) -> Any:
    """The application for ``serve.run``."""
    deployment: Any = Router
    return deployment.options(**options(config)).bind(msgspec.to_builtins(config))


def options(config: RouterConfig) -> dict[str, Any]:
    """How many replicas, on which nodes, and how long one that goes may take."""
    wanted = config.serve
    found: dict[str, Any] = {"num_replicas": config.replicas}
    if wanted.replicas_most:
        scaling = {"min_replicas": config.replicas, "initial_replicas": config.replicas}
        scaling |= {"max_replicas": wanted.replicas_most}
        found = {"autoscaling_config": {**scaling, "target_ongoing_requests": wanted.requests_each}}
    if config.replicas > 1 or wanted.replicas_most:
        found["graceful_shutdown_timeout_s"] = wanted.drain_s
    if wanted.per_node:
        found["max_replicas_per_node"] = wanted.per_node
    if wanted.labels:
        found["ray_actor_options"] = {"num_cpus": 0, "label_selector": dict(wanted.labels)}
    return found


def application(args: dict[str, str]) -> Any:
    """Application builder for Serve config files; ``args.config`` names a TOML file."""
    path = args.get("config") or os.environ.get("ALLSORTS_CONFIG")
    config = load_config(Path(path) if path else None)
    check_config(config)
    return bind(config)
