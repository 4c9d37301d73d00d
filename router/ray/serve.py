"""Running the Serve application until somebody stops it: on a cluster of its own, or on one that runs already.

Ray reads its environment as it is imported (which sockets it binds, for one), so nothing here imports it before
``serve_settings.apply``.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from router.config import RouterConfig
from router.errors import ConfigError
from router.http.auth.authenticator import refuse_exposed_without_keys
from router.limits import most_connections, raise_descriptor_limit
from router.ray import settings as serve_settings
from router.ray.node_address import NODE, at_node, farthest, means_node
from router.state.location import open_store

DESCRIPTORS_EACH = 2
"""HAProxy needs one to the client and one to the replica. Ray's processes and HAProxy inherit this process's limit."""

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""The router moves no objects through Ray; the smallest store will do."""


EVERYWHERE = "0.0.0.0"  # noqa: S104 - what Serve is told; every node's HAProxy and replicas bind to its own address


def serve_ray(config: RouterConfig, address: str | None) -> None:
    """The Serve application, on a cluster of its own or on one that runs; until SIGINT or SIGTERM."""
    work_dir = Path(tempfile.mkdtemp(prefix="allsorts-"))
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        loopback = serve_settings.loopback_only(config.http.host)
        room = min(config.http.connections_limit, most_connections(raise_descriptor_limit()) // DESCRIPTORS_EACH)
        if address is None:
            serve_settings.apply(serve_settings.environment(work_dir=work_dir, loopback=loopback, connections=room))
        else:  # its nodes have theirs; what this process imports of Ray must agree
            serve_settings.apply({**serve_settings.REQUIRED, "RAY_USAGE_STATS_ENABLED": "0"})
        _run_application(config, address)
        _stop_on_signals(stop)  # once more: Ray has put its own handlers there, which end the process at once
        print(f"allsorts: serving on http://{config.http.host}:{config.http.port}/v1", file=sys.stderr, flush=True)  # noqa: T201
        stop.wait()
    finally:
        _stop_ray(own_cluster=address is None)
        shutil.rmtree(work_dir, ignore_errors=True)


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _run_application(config: RouterConfig, address: str | None) -> None:
    import ray
    from ray import serve as ray_serve

    from router.ray.app import APPLICATION, bind

    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        options |= {
            "include_dashboard": False,
            "num_cpus": max(2, os.cpu_count() or 2),
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    ray.init(address=address or "local", **options)
    if address is not None:
        _check_cluster(config)
    host = EVERYWHERE if config.http.host == NODE else config.http.host
    ray_serve.start(
        proxy_location="EveryNode",
        http_options={"host": host, "port": config.http.port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    ray_serve.run(bind(config), name=APPLICATION, route_prefix="/")


def _check_cluster(config: RouterConfig) -> None:
    """A cluster that runs without our settings would serve, slowly; say what is missing instead. What its nodes'
    addresses mean for who may come in is known only here.
    """
    import ray

    if means_node(config):
        addresses = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
        asyncio.run(check_exposure(at_node(config, farthest(addresses))))
    remote: Any = ray.remote(num_cpus=0)(lambda: dict(os.environ))
    missing = serve_settings.missing(ray.get(remote.remote(), timeout=60))
    if missing:
        raise ConfigError(
            "the Ray cluster runs without settings this router needs; restart its nodes after "
            'eval "$(allsorts ray-env)": ' + " ".join(missing)
        )


async def check_exposure(config: RouterConfig) -> None:
    """Refuse an open pool beyond loopback before anything of it listens, HAProxy included; and a store that does not
    answer, in one line instead of Ray's sixty. Raises ConfigError, StoreFailed.
    """
    store = open_store(config.state_dir)
    try:
        await store.keys()
        await refuse_exposed_without_keys(store, config.http.host)
    finally:
        await store.close()


def _stop_ray(*, own_cluster: bool) -> None:
    if "ray" not in sys.modules:
        return
    import ray
    from ray import serve as ray_serve

    if not ray.is_initialized():
        return
    if own_cluster:
        ray_serve.shutdown()
    else:
        from router.ray.app import APPLICATION
        from router.ray.controller import end as end_controller

        end_controller()
        ray_serve.delete(APPLICATION)
    ray.shutdown()
