"""How Ray Serve and its HAProxy are started: alone with their ports, and gone when whoever started them is."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from router.ray.settings import UNREAD, environment, free_port, haproxy_threads, node_environment

ENDS_WITHIN_S = 60.0

_START_AND_WAIT = """
import subprocess, sys
child = subprocess.Popen([sys.argv[1], "600"])
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the system has no way to ask for it")
def test_haproxy_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Orphaned by a SIGKILL it would hold the endpoint's port, answer 503, and keep the next router from starting."""
    wrapper = environment(work_dir=tmp_path, loopback=True, connections=1000)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    sleep = shutil.which("sleep")
    assert sleep is not None
    parent = subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT, wrapper],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "ALLSORTS_HAPROXY": sleep},
    )
    with parent:
        assert parent.stdout is not None
        haproxy = psutil.Process(int(parent.stdout.readline()))
        _until_it_runs(haproxy, sleep)
        parent.send_signal(signal.SIGKILL)
        parent.wait(ENDS_WITHIN_S)
        gone, _ = psutil.wait_procs([haproxy], ENDS_WITHIN_S)
    assert gone == [haproxy]


def _until_it_runs(process: psutil.Process, program: str) -> None:
    """The wrapper is a shell at first."""
    for _ in range(1000):
        if process.cmdline()[:1] == [program]:
            return
        psutil.wait_procs([process], 0.01)
    raise AssertionError(f"the wrapper never started {program}: {process.cmdline()}")


def test_two_clusters_on_one_machine_share_no_port(tmp_path: Path) -> None:
    """Serve's default for requests that find no replica is one fixed port, shared by all: another's router answered."""
    first, second = (environment(work_dir=tmp_path, loopback=True, connections=1000) for _ in range(2))
    names = [name for name in first if name.endswith("_PORT")]
    assert "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT" in names
    assert all(first[name] != second[name] for name in names)


def test_a_cluster_of_others_keeps_its_own_figures(tmp_path: Path) -> None:
    """What nobody reads is not collected in the router's own cluster; elsewhere somebody may have a dashboard."""
    own = environment(work_dir=tmp_path, loopback=True, connections=1000)
    node = node_environment(work_dir=tmp_path, address="10.0.0.1", connections=1000)
    assert UNREAD.items() <= own.items()
    assert not UNREAD.keys() & node.keys()


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 1), (4, 2), (8, 4), (64, 4)])
def test_haproxy_has_threads_by_the_machine(processors: int, threads: int) -> None:
    assert haproxy_threads(processors) == threads


def test_ray_is_not_imported_before_its_settings_are_made() -> None:
    """It reads them as it is imported: too late, and everything inside Ray listens on every interface."""
    code = "import sys, router.cli.serve, router.ray.serve; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


_CONFIG = """global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    option splice-request
    option splice-response
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind 0.0.0.0:{port}
    default_backend there
backend there
    server one 127.0.0.1:9
"""


@pytest.mark.parametrize("connections", [1, 1000])
def test_what_is_changed_in_the_configuration_is_understood_by_haproxy(tmp_path: Path, connections: int) -> None:
    """Once, however often the wrapper starts it on the same file: bounds on bodies, heads and addresses."""
    settings = environment(work_dir=tmp_path, loopback=True, connections=connections)
    config = tmp_path / "haproxy.cfg"
    config.write_text(_CONFIG.format(metrics=free_port(), port=free_port()))
    command = [settings["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(config)]
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    written = config.read_text()
    for line in (
        "timeout http-request 10s",
        "option http-buffer-request",
        "http-request set-header x-request-disconnect-disabled ?1",
        f"reject if {{ sc0_conn_cur gt {max(1, connections // 4)} }}",
        "track-sc0 src if !{ src 127.0.0.0/8 ::1 }",
    ):
        assert written.count(line) == 1, line
    assert "splice" not in written
    assert settings["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)
