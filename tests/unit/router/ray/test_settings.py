"""How Ray Serve and its HAProxy are started: alone with their ports, and gone when whoever started them is."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from router.ray.settings import environment

ENDS_WITHIN_S = 10.0

_START_AND_WAIT = """
import subprocess, sys
child = subprocess.Popen([sys.argv[1], "600"])
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the system has no way to ask for it")
def test_haproxy_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Orphaned by a SIGKILL it would hold the endpoint's port, answer 503, and keep the next router from starting."""
    wrapper = environment(work_dir=tmp_path, loopback=True)["RAY_SERVE_HAPROXY_BINARY_PATH"]
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
    first, second = (environment(work_dir=tmp_path, loopback=True) for _ in range(2))
    names = [name for name in first if name.endswith("_PORT")]
    assert "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT" in names
    assert all(first[name] != second[name] for name in names)


def test_ray_is_not_imported_before_its_settings_are_made() -> None:
    """It reads them as it is imported: too late, and everything inside Ray listens on every interface."""
    code = "import sys, router.cli.serve, router.ray.serve; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
