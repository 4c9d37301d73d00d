"""One checkout's pool for the benchmark: a router under plain uvicorn, and one simulated worker that keeps a pace."""

from pathlib import Path
from typing import Self

import psutil

from loadtest.bench.house.checkouts import Checkout
from loadtest.pools.processes import PoolProcesses

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
        self._processes = PoolProcesses(
            folder, checkout.command, checkout.environment, name=checkout.name, ready_within_s=READY_WITHIN_S,
            stop_within_s=STOP_WITHIN_S,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._processes.url

    def router_cpu_s(self) -> float:
        """Processor seconds that the router has used so far, user and system, all threads."""
        router = psutil.Process(self._processes.children[0].pid)
        times = [one.cpu_times() for one in (router, *router.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def __enter__(self) -> Self:
        pool = self._processes
        pool.clear()
        profile = pool.folder / "paced.toml"
        profile.write_text(_PROFILE.format(step_s=self._step_s), encoding="utf-8")
        try:
            pool.start_router()
            pool.children.append(pool.worker(NODE, {MODEL: profile}))
            pool.until(self._ready, "the worker is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop()

    def _ready(self) -> bool:
        return any(worker["node"] == NODE and worker["state"] == "ready" for worker in self._processes.workers())
