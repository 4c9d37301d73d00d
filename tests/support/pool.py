"""A whole pool as its user starts it: the command ``allsorts up`` in a process of its own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.until import until

STARTS_WITHIN_S = 180.0
STOPS_WITHIN_S = 60.0
MODEL = "smollm2-135m"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Pool:
    """Where it serves, and what its command said and ended with."""

    kind: str
    port: int
    grpc_port: int
    state_dir: Path
    process_id: int = 0
    said: list[str] = field(default_factory=list)
    status: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[dict[str, Any]]:
        return list(httpx.get(f"{self.url}/admin/fleet", timeout=60).json()["workers"])

    def busy(self) -> int:
        """Requests in the engines, by the engines' own count."""
        return sum(worker["running"] + worker["waiting"] for worker in self.workers())

    async def until_busy(self, wanted: bool, within_s: float = 60.0) -> None:
        what = "the engines are " + ("busy" if wanted else "idle")
        await asyncio.to_thread(until, lambda: (self.busy() > 0) is wanted, what, within_s=within_s)

    async def until_steps(self, more: int) -> None:
        """Wait until the engines have made so many steps more."""
        first = self._steps()
        await asyncio.to_thread(until, lambda: self._steps() >= first + more, f"{more} steps")

    def _steps(self) -> int:
        return sum(worker["step_sequence"] for worker in self.workers())


def up_command(port: int, grpc_port: int, state_dir: Path, models: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "router.cli.main", "up", "--port", str(port), "--grpc-port", str(grpc_port),
        "--state-dir", str(state_dir), "--models", str(models), *more,
    ]  # fmt: skip


@contextmanager
def running_pool(kind: str, state_dir: Path, models: Path) -> Iterator[Pool]:
    """``kind``: uvicorn or ray. Ends it with Ctrl-C's signal, as its user does."""
    pool = Pool(kind=kind, port=free_port(), grpc_port=free_port(), state_dir=state_dir)
    more = ["--without-ray"] if kind == "uvicorn" else []
    command = up_command(pool.port, pool.grpc_port, state_dir, models, *more)
    environment = {**os.environ, "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
    output = (state_dir / "up.log").open("w+")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    pool.process_id = process.pid
    try:
        _wait_until_ready(process, state_dir / "up.log")
        yield pool
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            pool.status = process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            pool.status = process.wait()
        output.close()
        pool.said = (state_dir / "up.log").read_text().splitlines()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    def ready() -> bool:
        text = log.read_text()
        assert process.poll() is None, f"`allsorts up` ended with {process.returncode}:\n{text}"
        return "Ctrl-C stops everything" in text

    until(ready, log.read_text, within_s=STARTS_WITHIN_S)
