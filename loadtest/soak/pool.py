"""The pool that is soaked: a router, workers that stay and workers that come and go, each with its own models."""

import asyncio
import itertools
import json
import random
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from loadtest.bench.house.checkouts import Checkout
from loadtest.chaos.pool import free_port
from loadtest.soak.flat import Held
from router.cli.support.processes import Child, stop_all

MODELS = ("steady", "moving")
"""``steady`` is served by those that stay; ``moving`` by one of them and by those that come and go with it."""
STAYING = 3
READY_WITHIN_S, STOP_WITHIN_S = 90.0, 30.0

_PROFILE = """machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 4096
slots = 16
[speed]
base_s = 0.05
per_sequence_s = 0.001
per_context_token_s = 0.0
prefill_tokens_per_s = 20000
prefill_base_s = 0.005
kv_capacity_tokens = 200000
chunk_tokens = 2048
[behaviour]
noise = 0.02
load_s = 0.5
"""
_FIGURE = re.compile(r"^(\w+)(?:\{\})? (\S+)$", re.MULTILINE)


class Pool:
    """Up between ``with`` and its end."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._here = Checkout.here()
        self._folder = folder.resolve()
        self._port, self._grpc_port = free_port(), free_port()
        self._dice = random.Random(seed)
        self._children: list[Child] = []
        self._guests: dict[str, Child] = {}
        self._numbers = itertools.count(1)
        self.joined = self.left = self.killed = 0

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        for model in MODELS:
            (self._folder / f"{model}.toml").write_text(_PROFILE, encoding="utf-8")
        try:
            ports = ("--port", str(self._port), "--grpc-port", str(self._grpc_port))
            command = self._here.command("serve", "--without-ray", *ports, *self._state("router"))
            self._children.append(self._child("router", command))
            self._until(lambda: self._get("/healthz") is not None, "the router answers")
            for number in range(STAYING):
                models = MODELS if number == 0 else MODELS[:1]
                self._children.append(self._worker(f"stays-{number + 1}", models))
            self._until(lambda: self._ready() == STAYING, "the workers are ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_all([*self._children, *self._guests.values()], STOP_WITHIN_S)

    def held(self, began: float) -> Held:
        """What the router holds now, by its own account. Raises OSError."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as reply:
            figures = {name: float(value) for name, value in _FIGURE.findall(reply.read().decode())}
        return Held(
            at_s=round(time.monotonic() - began, 1),
            memory_bytes=figures["process_resident_memory_bytes"],
            descriptors=figures["process_open_fds"],
            tasks=figures["allsorts_tasks"],
            claims=figures["allsorts_open_claims"],
            requests=figures["allsorts_open_requests"],
        )

    async def churn(self, every_s: float, over: asyncio.Event) -> None:
        """Until ``over``: now somebody joins, now somebody leaves, as it pleases them; one in three without a word.

        A guest loads its models as it comes and frees them as it goes, so each also loads and unloads.
        """
        while not over.is_set():
            try:
                async with asyncio.timeout(self._dice.uniform(0.5, 1.5) * every_s):
                    await over.wait()
            except TimeoutError:
                await asyncio.to_thread(self._change)
        await asyncio.to_thread(self.send_guests_home)

    def send_guests_home(self) -> None:
        """Only those that stay are left."""
        stop_all(list(self._guests.values()), STOP_WITHIN_S)
        self.left += len(self._guests)
        self._guests.clear()

    def settled(self) -> None:
        """Wait until the fleet is those that stay, and nothing runs. Raises TimeoutError."""
        self._until(lambda: self._ready() == STAYING and not self._busy(), "the pool is idle")

    def _change(self) -> None:
        if self._guests and self._dice.random() < 0.25 * len(self._guests):
            name = self._dice.choice(sorted(self._guests))
            guest = self._guests.pop(name)
            if self._dice.random() < 1.0 / 3.0:
                guest.send(signal.SIGKILL)
                self.killed += 1
            else:
                guest.ask_to_stop()
                self.left += 1
            guest.wait(STOP_WITHIN_S)
            return
        name = f"guest-{next(self._numbers)}"
        models = self._dice.choice((MODELS, MODELS[1:], MODELS[:1]))
        self._guests[name] = self._worker(name, models)
        self.joined += 1

    def _worker(self, name: str, models: tuple[str, ...]) -> Child:
        asked = [text for model in models for text in ("--model", f"{model}={self._folder / model}.toml")]
        there = ("--router", f"127.0.0.1:{self._grpc_port}", "--node", name, "--engine", "simulated", "--no-benchmark")
        command = self._here.command("worker", *there, *asked, *self._state(name))
        return self._child(name, command)

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(name, command, log=self._folder / f"{name}.log", environment=self._here.environment)

    def _state(self, name: str) -> tuple[str, str]:
        return "--state-dir", str(self._folder / name)

    def _ready(self) -> int:
        return sum(worker["state"] == "ready" for worker in self._workers())

    def _busy(self) -> bool:
        return any(worker["running"] or worker["waiting"] or worker["inflight"] for worker in self._workers())

    def _workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (self._get("/admin/fleet") or {}).get("workers", [])
        return found

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
                raise RuntimeError(f"{ended.name} ended:\n{ended.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not after {READY_WITHIN_S:.0f} s: {what}")
            time.sleep(0.2)
