"""``allsorts serve``: the router, under Ray Serve or plain uvicorn."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from router.config import RouterConfig, load_config
from router.configured import check_config
from router.errors import ConfigError
from router.limits import most_connections, raise_descriptor_limit, settle_heap
from router.ray.node_address import NODE
from router.ray.serve import check_exposure, serve_ray
from router.scheduling.placement.policies import POLICIES
from router.telemetry.logging import configure_logging


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
    host: Annotated[str | None, typer.Option(help="Where clients connect. Beyond loopback, keys must exist.")] = None,
    port: Annotated[int | None, typer.Option(help="Where clients connect.")] = None,
    grpc_host: Annotated[str | None, typer.Option(help="Where workers dial. Beyond loopback, TLS is on.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Where workers dial.")] = None,
    enrol_port: Annotated[int | None, typer.Option(help="Where joining machines dial (TLS pools).")] = None,
    install_port: Annotated[int | None, typer.Option(help="Where bare machines get allsorts (TLS pools).")] = None,
    state_dir: Annotated[
        str, typer.Option(help="Keys, tokens, revocations, the CA: a folder, or redis://… for several machines.")
    ] = "",
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

      allsorts serve --address 10.0.0.1:6379 --host node --grpc-host node --replicas 2 --state-dir redis://10.0.0.9/0

    """
    http = {"host": host, "port": port}
    grpc = {"host": grpc_host, "port": grpc_port, "enrol_port": enrol_port, "install_port": install_port}
    overrides: dict[str, Any] = {
        "http": _given(http),
        "grpc": _given(grpc),
        "placement": _given({"policy": policy, "record_file": str(records.absolute()) if records else None}),
        **_given({"state_dir": state_dir or None, "replicas": replicas, "log_level": log_level}),
    }
    settings = load_config(config, overrides)
    check_config(settings)
    if without_ray and settings.replicas > 1:  # workers would be told to dial replicas that nobody starts
        raise ConfigError(f"--without-ray is one router replica; leave it out for {settings.replicas}")
    if NODE in (settings.http.host, settings.grpc.host) and not address:
        raise ConfigError(f"host '{NODE}' is for a Ray cluster: name it with --address, or give a host of this machine")
    configure_logging(settings.log_level)
    if address is None:  # a cluster's ports are on its nodes
        _check_ports(settings)
    if NODE not in (settings.http.host, settings.grpc.host):
        asyncio.run(check_exposure(settings))
    if without_ray:
        serve_uvicorn(settings)
    else:
        serve_ray(settings, address)


def serve_uvicorn(config: RouterConfig) -> None:
    """One router replica in this process, until SIGINT or SIGTERM."""
    from functools import partial

    import uvicorn

    from router.app import RouterNode
    from router.http.server.bounded_connection import BoundedConnection
    from router.http.server.connection_book import ConnectionBook
    from router.http.streaming.outflow import Outflow

    room = min(config.http.connections_limit, most_connections(raise_descriptor_limit()))
    node = RouterNode(config)
    settle_heap()
    uvicorn.run(
        node,
        http=partial(BoundedConnection, book=ConnectionBook(room), outflow=Outflow()),
        host=config.http.host,
        port=config.http.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        backlog=4096,
    )


def _check_ports(config: RouterConfig) -> None:
    from router.ray.settings import port_taken

    wanted = [("--port", config.http.host, config.http.port)]
    if config.grpc.port:  # one for each replica, in a row
        ports = range(config.grpc.port, config.grpc.port + config.replicas)
        wanted += [("--grpc-port", config.grpc.host, port) for port in ports]
    for flag, host, port in wanted:
        if port and port_taken(host, port):
            raise ConfigError(f"port {port} on {host} is taken; choose another with {flag}, e.g. {flag} {port + 10}")


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
