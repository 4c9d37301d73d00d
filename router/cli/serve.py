"""``allsorts serve``: the router, under Ray Serve or plain uvicorn."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from router.config import POLICIES, RouterConfig, load_config
from router.errors import ConfigError
from router.http.auth import refuse_open_door
from router.http.model_name import default_floors
from router.state.place import open_store
from router.telemetry.logging import configure_logging

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""The router moves no objects through Ray; the smallest store will do."""


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
    host: Annotated[str | None, typer.Option(help="Where clients connect. Beyond loopback, keys must exist.")] = None,
    port: Annotated[int | None, typer.Option(help="Where clients connect.")] = None,
    grpc_host: Annotated[str | None, typer.Option(help="Where workers dial. Beyond loopback, TLS is on.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Where workers dial.")] = None,
    enrol_port: Annotated[int | None, typer.Option(help="Where joining machines knock (TLS pools).")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Keys, tokens, revocations, the CA.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="Keep decision records in FILE too, further replicas in FILE.rankN.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help=f"Placement policy: {', '.join(POLICIES)}.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Router replicas (Ray only).")] = None,
    without_ray: Annotated[bool, typer.Option(help="Run under plain uvicorn, in this process.")] = False,
    address: Annotated[str | None, typer.Option(help="A Ray cluster that already runs, e.g. 'auto'.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve the OpenAI-compatible endpoint and let workers in.

    Examples:
      allsorts serve

      allsorts serve --port 9000 --grpc-port 9100 --without-ray

      allsorts serve --config allsorts.toml --replicas 2

    """
    http = {"host": host, "port": port}
    grpc = {"host": grpc_host, "port": grpc_port, "enrol_port": enrol_port}
    overrides: dict[str, Any] = {
        "http": _given(http),
        "grpc": _given(grpc),
        "placement": _given({"policy": policy, "record_file": str(records.absolute()) if records else None}),
        **_given({"state_dir": str(state_dir) if state_dir else None, "replicas": replicas, "log_level": log_level}),
    }
    settings = load_config(config, overrides)
    default_floors(settings.http.quality_floors)  # refuses a floor that nothing can be compared with
    if without_ray and settings.replicas > 1:  # workers would be told to dial replicas that nobody starts
        raise ConfigError(f"--without-ray is one router replica; leave it out for {settings.replicas}")
    configure_logging(settings.log_level)
    _check_ports(settings)
    asyncio.run(_check_door(settings))
    if without_ray:
        serve_uvicorn(settings)
    else:
        serve_ray(settings, address)


def serve_uvicorn(config: RouterConfig) -> None:
    """One router replica in this process, until SIGINT or SIGTERM."""
    import uvicorn

    from router.app import RouterNode
    from router.http.bounded_connection import BoundedConnection

    uvicorn.run(
        RouterNode(config),
        http=BoundedConnection,
        host=config.http.host,
        port=config.http.port,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        backlog=4096,
    )


def serve_ray(config: RouterConfig, address: str | None) -> None:
    """The Serve application, on a cluster of its own or on one that runs; until SIGINT or SIGTERM."""
    from router import serve_settings

    work_dir = Path(tempfile.mkdtemp(prefix="allsorts-"))
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        loopback = serve_settings.loopback_only(config.http.host)
        serve_settings.apply(serve_settings.environment(work_dir=work_dir, loopback=loopback))
        _run_application(config, address)
        _stop_on_signals(stop)  # once more: Ray has put its own handlers there, which end the process at once
        typer.echo(f"allsorts: serving on http://{config.http.host}:{config.http.port}/v1", err=True)
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

    from router.ray_app import APPLICATION, bind

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

    from router import serve_settings

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
        from router.ray_app import APPLICATION

        ray_serve.delete(APPLICATION)
    ray.shutdown()


def _check_ports(config: RouterConfig) -> None:
    from router.serve_settings import port_taken

    wanted = [("--port", config.http.host, config.http.port)]
    if config.grpc.port:  # one for each replica, in a row
        ports = range(config.grpc.port, config.grpc.port + config.replicas)
        wanted += [("--grpc-port", config.grpc.host, port) for port in ports]
    for flag, host, port in wanted:
        if port and port_taken(host, port):
            raise ConfigError(f"port {port} on {host} is taken; choose another with {flag}, e.g. {flag} {port + 10}")


async def _check_door(config: RouterConfig) -> None:
    """Refuse an open pool beyond loopback before anything of it listens, HAProxy included."""
    store = open_store(config.state_dir)
    try:
        await refuse_open_door(store, config.http.host)
    finally:
        await store.close()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
