"""The router as a Ray Serve application: a raw ASGI object inside the ingress replica, no second Serve hop.

A Serve config file imports ``router.ray.app:application``; ``allsorts serve`` binds its own configuration.
"""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from uvicorn.config import HTTP_PROTOCOLS

from router.app import RouterNode, check_config
from router.config import RouterConfig, load_config
from router.fleet.node_runner import RayNode, RunningWorker
from router.fleet.planning.steps import Plan
from router.http.streaming.direct_writes import DirectConnection
from router.http.streaming.outflow import Outflow
from router.limits import settle_heap
from router.ray import controller
from router.ray.settings import OWN_CLUSTER
from router.telemetry.logging import configure_logging

APPLICATION = "allsorts"
DEPLOYMENT = "router"
RUNNER = ""
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
)
@serve.ingress()
class Router:
    """One router replica. Serve runs the ASGI lifespan, which starts and stops the node's gRPC server."""

    def __init__(self, config: dict[str, Any]) -> None:
        if os.environ.get(OWN_CLUSTER):
            keep_internal_port_on_loopback()
        write_directly()
        self._config = msgspec.convert(config, RouterConfig)

    def __serve_build_asgi_app__(self) -> RouterNode:
        """Serve calls this once, after the constructor."""
        configure_logging(self._config.log_level)
        self._node = RouterNode(self._config, rank=_rank(), controller=self._ensure_controller)
        settle_heap()
        return self._node

    async def next_steps(self, nodes: tuple[RayNode, ...], workers: tuple[RunningWorker, ...]) -> Plan:
        """For the fleet controller (``router.ray.controller``): look, plan, and carry out what concerns sessions."""
        return await self._node.next_steps(nodes, workers)

    @staticmethod
    async def _ensure_controller() -> None:
        await asyncio.to_thread(controller.ensure, APPLICATION, DEPLOYMENT, RUNNER)


def _rank() -> int:
    """The replica's rank among the router's replicas; decides its session port."""
    rank = getattr(serve.get_replica_context(), "rank", 0)
    return int(getattr(rank, "rank", rank) or 0)


def keep_internal_port_on_loopback() -> None:
    """Serve (2.60) binds a replica's port for calls between deployments to every interface, and unpickles what comes.

    Nothing here calls it, Serve has no setting for it, and whoever reached it could run code; so on a cluster of one
    machine it stays on that machine. Runs before the replica binds, which is after the deployment's constructor.
    """
    from ray.serve._private import replica

    bind_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind_port(server, address.replace("[::]", "127.0.0.1"))


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
    return deployment.options(num_replicas=config.replicas).bind(msgspec.to_builtins(config))


def application(args: dict[str, str]) -> Any:
    """Application builder for Serve config files; ``args.config`` names a TOML file."""
    path = args.get("config") or os.environ.get("ALLSORTS_CONFIG")
    config = load_config(Path(path) if path else None)
    check_config(config)
    return bind(config)
