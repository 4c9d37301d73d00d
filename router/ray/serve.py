"""Running the Serve application until somebody stops it: on a cluster of its own, or on one that runs already.

Ray reads its environment as it is imported (which sockets it binds, for one), so nothing here imports it before
``serve_settings.apply``.
"""

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
from router.limits import most_connections, raise_descriptor_limit
from router.ray import settings as serve_settings

DESCRIPTORS_EACH = 2
"""HAProxy needs one to the client and one to the replica. Ray's processes and HAProxy inherit this process's limit."""

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""The router moves no objects through Ray; the smallest store will do."""


def serve_ray(config: RouterConfig, address: str | None) -> None:
    """The Serve application, on a cluster of its own or on one that runs; until SIGINT or SIGTERM."""
    work_dir = Path(tempfile.mkdtemp(prefix="allsorts-"))
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        loopback = serve_settings.loopback_only(config.http.host)
        room = min(config.http.connections_limit, most_connections(raise_descriptor_limit()) // DESCRIPTORS_EACH)
        serve_settings.apply(serve_settings.environment(work_dir=work_dir, loopback=loopback, connections=room))
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
        _check_cluster()
    ray_serve.start(
        http_options={"host": config.http.host, "port": config.http.port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    ray_serve.run(bind(config), name=APPLICATION, route_prefix="/")


def _check_cluster() -> None:
    """A cluster that runs without our settings would serve, slowly; say what is missing instead."""
    import ray

    remote: Any = ray.remote(num_cpus=0)(lambda: dict(os.environ))
    missing = serve_settings.missing(ray.get(remote.remote(), timeout=60))
    if missing:
        raise ConfigError(
            "the Ray cluster runs without settings this router needs; restart its nodes with: " + " ".join(missing)
        )


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
