"""One checkout's pool for the benchmark: a router under plain uvicorn, and one simulated worker that keeps a pace."""

import json
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from loadtest.bench.house.checkouts import Checkout
from loadtest.chaos.pool import free_port
from router.cli.support.processes import Child, stop_all

MODEL, NODE = "paced", "paced-worker"
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0

_PROFILE = """# A step takes so long whatever its batch, a prompt next to nothing.
machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 4096
slots = 96
[speed]
base_s = {step_s}
per_sequence_s = 0.0
per_context_token_s = 0.0
prefill_tokens_per_s = 1e9
prefill_base_s = 0.0
prefill_attention = 0.0
kv_capacity_tokens = 600000
chunk_tokens = 8192
[behaviour]
noise = 0.0
hidden = 0.0
load_s = 0.1
"""


class Pool:
    """Up between ``with`` and its end; its processes are ended by their ids."""

    def __init__(self, checkout: Checkout, folder: Path, *, step_s: float = 0.01) -> None:
        self._step_s = step_s
        self._checkout = checkout
        self._folder = folder.resolve()
        self._port, self._grpc_port = free_port(), free_port()
        self._children: list[Child] = []

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._port}"

    def router_cpu_s(self) -> float:
        """Processor seconds that the router has used so far, user and system, all threads."""
        router = psutil.Process(self._children[0].pid)
        times = [one.cpu_times() for one in (router, *router.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        profile = self._folder / "paced.toml"
        profile.write_text(_PROFILE.format(step_s=self._step_s), encoding="utf-8")
        grpc = ("--grpc-port", str(self._grpc_port))
        try:
            self._start("router", "serve", "--without-ray", "--port", str(self._port), *grpc)
            self._until(lambda: self._get("/healthz") is not None, "the router")
            there = f"127.0.0.1:{self._grpc_port}"
            model = f"{MODEL}={profile}"
            self._start(
                NODE, "worker", "--router", there, "--engine", "simulated", "--node", NODE,
                "--model", model, "--no-benchmark",
            )  # fmt: skip
            self._until(self._ready, "the worker")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self._children, STOP_WITHIN_S)

    def _start(self, name: str, *arguments: str) -> None:
        command = self._checkout.command(*arguments, "--state-dir", str(self._folder / name))
        log = self._folder / f"{name}.log"
        self._children.append(Child(name, command, log=log, environment=self._checkout.environment))

    def _ready(self) -> bool:
        fleet = self._get("/admin/fleet") or {}
        return any(worker["node"] == NODE and worker["state"] == "ready" for worker in fleet.get("workers", ()))

    def _get(self, path: str) -> Any:
        """JSON, or None while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as reply:
                return json.loads(reply.read() or b"{}")
        except (OSError, ValueError):
            return None

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not reached():
            ended = next((child for child in self._children if not child.alive), None)
            if ended is not None:
                raise RuntimeError(f"{self._checkout.name}: {ended.name} ended while starting:\n{ended.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._checkout.name}: {what} is not there after {READY_WITHIN_S:.0f} s")
            time.sleep(0.1)
