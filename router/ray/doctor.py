"""``allsorts doctor --cluster``: what a Ray cluster lacks to carry the router, node by node.

Each node is asked by a task of its own: what it was started with, which versions it has, and whether it reaches the
others where Ray's nodes must reach each other. Judging that is pure (``judge``).
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protos.contract.addresses import is_loopback
from protos.contract.joining.versions import own_version
from router.errors import ConfigError
from router.ray import settings

ANSWERS_WITHIN_S = 90.0
CONNECTS_WITHIN_S = 3.0

TLS_FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
TOKEN, TOKEN_FILE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What one node says of itself."""

    address: str
    python: str = ""
    ray: str = ""
    allsorts: str = ""
    missing: tuple[str, ...] = ()  # settings of Serve's
    haproxy: bool = True
    token: bool = False  # whoever calls must show Ray's token
    tls: bool = False
    tls_lacks: tuple[str, ...] = ()  # files that TLS needs and that are not there
    http_host: str = ""
    unreachable: tuple[str, ...] = ()  # host:port of other nodes
    silent: str = ""  # it did not answer: why


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFinding:
    """One check's result, in the words of ``workers.doctor``."""

    check: str
    ok: bool
    detail: str
    hint: str = ""


def examine(address: str) -> list[ClusterFinding]:
    """Of the cluster at ``address``. Raises ConfigError where there is none."""
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(f"no Ray cluster answers at {address}: {str(error).strip().splitlines()[0]}") from None
    try:
        return list(judge(_reports(ray)))
    finally:
        ray.shutdown()


def _reports(ray: Any) -> list[NodeReport]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [one for one in ray.nodes() if one["Alive"]]
    ports = {one["NodeManagerAddress"]: (one["NodeManagerPort"], one["ObjectManagerPort"]) for one in nodes}
    remote = ray.remote(num_cpus=0)(report)
    asked = {}
    for node in nodes:
        address = node["NodeManagerAddress"]
        others = [f"{other}:{port}" for other, both in ports.items() if other != address for port in both]
        where = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        asked[address] = remote.options(scheduling_strategy=where).remote(address, others)
    found = []
    for address, answer in sorted(asked.items()):
        try:
            found.append(ray.get(answer, timeout=ANSWERS_WITHIN_S))
        except ray.exceptions.RayError as error:
            found.append(NodeReport(address=address, silent=str(error).strip().splitlines()[0]))
    return found


def report(address: str, others: Iterable[str]) -> NodeReport:
    """What this node says of itself. Runs on it."""
    environ = os.environ
    return NodeReport(
        address=address,
        python=".".join(map(str, sys.version_info[:3])),
        ray=version("ray"),
        allsorts=own_version(),
        missing=tuple(settings.missing(environ)),
        haproxy=Path(environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")).is_file(),
        token=environ.get("RAY_AUTH_MODE", "").lower() == "token",
        tls=environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"),
        tls_lacks=tuple(name for name in TLS_FILES if not Path(environ.get(name, "")).is_file()),
        http_host=environ.get(settings.HTTP_HOST, ""),
        unreachable=tuple(one for one in others if not _reaches(one)),
    )


def _reaches(target: str) -> bool:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECTS_WITHIN_S).close()
    except OSError:
        return False
    return True


def judge(reports: Iterable[NodeReport]) -> Iterator[ClusterFinding]:
    """What is in order and what is not, each with what to do."""
    nodes = list(reports)
    for node in nodes:
        yield from _of_node(node)
    answering = [node for node in nodes if not node.silent]
    for name in ("python", "ray", "allsorts"):
        found = sorted({getattr(node, name) for node in answering})
        hint = f"give every node the same {name}: Ray's nodes must agree, to the patch of Python"
        yield ClusterFinding(check="versions", ok=len(found) <= 1, detail=f"{name} {', '.join(found)}", hint=hint)
    yield _guarded(answering)


def _of_node(node: NodeReport) -> Iterator[ClusterFinding]:
    if node.silent:
        hint = "look at its raylet's log; are Ray's ports open between it and the head?"
        yield ClusterFinding(check="node", ok=False, detail=f"{node.address}: {node.silent}", hint=hint)
        return
    restart = f'stop its raylet, then: eval "$(allsorts ray-env --host {node.address})" and start it again'
    lacks = ", ".join(node.missing) or ("" if node.haproxy else "the HAProxy that ray-env makes")
    said = (
        f"lacks {lacks}" if lacks else f"has what Serve needs; its HAProxy listens on {node.http_host or 'any address'}"
    )
    yield ClusterFinding(check="node", ok=not lacks, detail=f"{node.address}: {said}", hint=restart)
    if node.tls and node.tls_lacks:
        lacking = ", ".join(node.tls_lacks)
        hint = "name the files with these variables, or leave RAY_USE_TLS out"
        yield ClusterFinding(check="tls", ok=False, detail=f"{node.address}: TLS is on without {lacking}", hint=hint)
    reached = f"{node.address}: " + (
        f"does not reach {', '.join(node.unreachable)}" if node.unreachable else "reaches every other node"
    )
    hint = "open Ray's ports between the nodes, and to nobody else"
    yield ClusterFinding(check="ports", ok=not node.unreachable, detail=reached, hint=hint)


def _guarded(nodes: list[NodeReport]) -> ClusterFinding:
    """Whoever reaches Ray's ports can run code, unless it asks for a token."""
    open_ones = [node.address for node in nodes if not node.token]
    beyond = [address for address in open_ones if not is_loopback(address)]
    ways = " and ".join(
        way for way, on in (("token", not open_ones), ("TLS", all(node.tls for node in nodes))) if on and nodes
    )
    if beyond:
        detail = f"whoever reaches {', '.join(beyond)} can run code there: no token is asked for"
    else:
        detail = f"Ray's ports are guarded by {ways}" if ways else "no token is asked for, on this machine alone"
    hint = (
        f"set RAY_AUTH_MODE=token, and {TOKEN_FILE} to a private file (`ray get-auth-token --generate`), on every node"
    )
    return ClusterFinding(check="token", ok=not beyond, detail=detail, hint=hint)
