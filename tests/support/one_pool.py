"""A router and its workers as processes of their own, started by their commands, ended by their ids."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from router.config import AdmissionConfig
from tests.support.pool import free_port
from tests.support.until import until

PATIENT_S = 3600.0
"""A router's patience that no test outlives."""
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 60.0


@dataclass
class OnePool:
    """One router without Ray on loopback."""

    folder: Path
    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    router_pid: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fleet(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/admin/fleet", timeout=60).json())

    def worker(self, node: str) -> dict[str, Any]:
        """One worker as the router sees it; empty when it is not there."""
        return next((one for one in self.fleet()["workers"] if one["node"] == node), {})

    def models(self, node: str) -> dict[str, dict[str, Any]]:
        return {one["model"]: one for one in self.worker(node).get("models", ())}

    def until(self, reached: Callable[[], Any], within_s: float = STARTS_WITHIN_S) -> None:
        """Wait for the router to see it."""
        until(reached, lambda: f"the fleet is {self.fleet()}", within_s=within_s)

    def chat(self, model: str, *, words: str = "Name a colour.", max_tokens: int = 8) -> httpx.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    @contextlib.contextmanager
    def working(
        self,
        node: str,
        *arguments: str,
        python: str = sys.executable,
        module: str = "workers.cli.worker",
        memory_limit_bytes: int = 0,
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """``allsorts worker`` (or a module that stands in for it); it is gone afterwards."""
        command = [
            python, "-m", module, "--router", f"127.0.0.1:{self.grpc_port}", "--node", node,
            "--state-dir", str(self.folder / node), *arguments,
        ]  # fmt: skip
        limit = memory_limit_bytes
        with (self.folder / f"{node}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ALLSORTS_WORKER_BENCHMARK": "off"},
            )
            if limit:
                resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
            try:
                yield process
            finally:
                end(process, signal.SIGTERM)

    def said_by(self, node: str) -> str:
        return (self.folder / f"{node}.log").read_text()


def end(process: "subprocess.Popen[bytes]", how: signal.Signals) -> int:
    """Ask a process to end; killed when it does not."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _answers(pool: OnePool, router: "subprocess.Popen[bytes]") -> bool:
    assert router.poll() is None, (pool.folder / "router.log").read_text()
    with contextlib.suppress(httpx.HTTPError):
        pool.fleet()
        return True
    return False


@contextlib.contextmanager
def one_pool(folder: Path, *, patience_s: float = AdmissionConfig().patience_s) -> Iterator[OnePool]:
    """A router that answers. ``patience_s``: how long it lets a request wait for a worker of its model.

    Longer than a client of the tests waits for an answer: a request that is not refused at once then fails its test.
    """
    pool = OnePool(folder)
    settings = folder / "router.toml"
    settings.write_text(f"[admission]\npatience_s = {patience_s}\n")
    command = [
        sys.executable, "-m", "router.cli.main", "serve", "--without-ray", "--port", str(pool.port),
        "--grpc-port", str(pool.grpc_port), "--state-dir", str(folder / "router"), "--config", str(settings),
    ]  # fmt: skip
    with (folder / "router.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        pool.router_pid = process.pid
        try:
            until(lambda: _answers(pool, process), (folder / "router.log").read_text, within_s=STARTS_WITHIN_S)
            yield pool
        finally:
            assert end(process, signal.SIGTERM) in (0, -signal.SIGTERM), (folder / "router.log").read_text()
