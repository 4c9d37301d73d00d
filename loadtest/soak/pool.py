"""The pool that is soaked: a router, workers that stay and workers that come and go, each with its own models."""

import asyncio
import itertools
import random
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Self

from loadtest.bench.house.checkouts import Checkout
from loadtest.pools.processes import PoolProcesses
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
        here = Checkout.here()
        self._processes = PoolProcesses(
            folder, here.command, here.environment, ready_within_s=READY_WITHIN_S, stop_within_s=STOP_WITHIN_S
        )
        self._dice = random.Random(seed)
        self._guests: dict[str, Child] = {}
        self._numbers = itertools.count(1)
        self.joined = self.left = self.killed = 0

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._processes.url

    def __enter__(self) -> Self:
        pool = self._processes
        pool.clear()
        for model in MODELS:
            self._profile(model).write_text(_PROFILE, encoding="utf-8")
        try:
            pool.start_router()
            for number in range(STAYING):
                pool.children.append(self._worker(f"stays-{number + 1}", MODELS if number == 0 else MODELS[:1]))
            pool.until(lambda: self._ready() == STAYING, "the workers are ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop(tuple(self._guests.values()))

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
        self._processes.until(lambda: self._ready() == STAYING and not self._busy(), "the pool is idle")

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
        return self._processes.worker(name, {model: self._profile(model) for model in models})

    def _profile(self, model: str) -> Path:
        return self._processes.folder / f"{model}.toml"

    def _ready(self) -> int:
        return sum(worker["state"] == "ready" for worker in self._processes.workers())

    def _busy(self) -> bool:
        workers = self._processes.workers()
        return any(worker["running"] or worker["waiting"] or worker["inflight"] for worker in workers)
