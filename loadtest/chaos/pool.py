"""The pool that chaos breaks: a router, two workers with the real model and six simulated ones, each a process."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from loadtest.chaos.faults.liar import Liar
from loadtest.chaos.faults.silent_proxy import SilentProxy
from loadtest.chaos.routers import RouterProcess, Serving
from loadtest.chaos.waiting import NotReached, until
from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all

REAL, SIMULATED = "smollm2-135m", "simulated-8b"
DRAFT = "draft"
SIMULATED_WORKERS, REAL_WORKERS = 6, 2
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 40.0

_PROFILE = """machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "{quantization}"
context_tokens = 8192
slots = 96
[speed]
base_s = 0.09
per_sequence_s = 0.0004
per_context_token_s = 1e-7
prefill_tokens_per_s = 40000
prefill_base_s = 0.005
kv_capacity_tokens = 600000
chunk_tokens = 2048
[behaviour]
hidden = 0.1
seed = {seed}
load_s = {load_s}
"""
_SLOW_LOAD_S = 120.0
_NOBODY_THERE = "127.0.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a scenario wants otherwise than usual."""

    loading: bool = False  # whoever may be hit has more models, which load and are measured while the first serves
    proxied: bool = False  # workers reach the router through a network that can be cut
    liars: bool = False  # simulated workers speak through liars, honest at first
    draft: bool = False  # a draft worker proposes to those with the real model, two tokens each round
    fake_clock: bool = False  # wall clocks of the router and the workers follow a file
    state_dir: Path | None = None  # of the router; None: in the pool's own folder


@dataclass(slots=True)
class Worker:
    """One worker process."""

    name: str
    engine: str
    child: Child
    control: Path | None = None  # faults of a simulated one
    worker_id: str = ""


@dataclass(slots=True)
class ChaosPool:
    """Up between ``async with`` and its end."""

    folder: Path
    models: dict[str, Path]  # quantization -> file of the real model
    layout: Layout
    serving: Serving
    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    workers: dict[str, Worker] = field(default_factory=dict)
    proxies: dict[str, SilentProxy] = field(default_factory=dict)
    liars: dict[str, Liar] = field(default_factory=dict)
    victims: dict[str, str] = field(default_factory=dict)  # who is hit, by engine, once that was chosen
    router: RouterProcess = field(init=False)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_dir(self) -> Path:
        """The router's."""
        return self.layout.state_dir or self.folder / "router"

    @property
    def records(self) -> Path:
        """Where the router keeps decision records."""
        return self.state_dir / "records.jsonl"

    def victim(self, engine: str) -> Worker:
        """Who is hit."""
        return self.workers[self.victims[engine]]

    def struck(self) -> list[Worker]:
        """All that are hit."""
        return [self.workers[name] for name in self.victims.values()]

    def may_be_struck(self, engine: str) -> list[str]:
        """Workers that the layout prepares for it."""
        spared = self.spared()
        return [one.name for one in self.workers.values() if one.engine == engine and one.name not in spared]

    def spared(self) -> list[str]:
        """Real workers that the layout does not prepare: only one loads more, since to measure it costs time."""
        real = [worker.name for worker in self.workers.values() if worker.engine == "llama.cpp"]
        return real[1:] if self.layout.loading else []

    async def __aenter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)  # what an earlier run measured or logged there
        self.folder.mkdir(parents=True)
        try:
            self._start_router()
            await until(self._answers, READY_WITHIN_S, "the router answers", self._check_alive)
            await self._between()
            for number in range(SIMULATED_WORKERS):
                self._start_simulated(number + 1)
            for number, file in enumerate(self.models.values()):
                self._start_real(number + 1, file)
            if self.layout.draft:
                self._start_draft()
            await until(self.all_ready, READY_WITHIN_S, "the workers are ready", self._check_alive)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.child.send(signal.SIGCONT)
        await asyncio.to_thread(stop_all, self._children(), STOP_WITHIN_S)
        for proxy in self.proxies.values():
            await proxy.stop()
        for liar in self.liars.values():
            await liar.stop()

    def _children(self) -> list[Child]:
        return [self.router.child, *(worker.child for worker in self.workers.values())]

    def _start_router(self) -> None:
        config = self.folder / "router.toml"
        if self.layout.proxied or self.layout.liars:  # nobody is told of a way around what stands between
            config.write_text(f'[grpc]\nadvertised_host = "{_NOBODY_THERE}"\n')
        else:
            config.write_text("")
        command = [
            *_ALLSORTS, "serve", "--config", str(config), "--port", str(self.port), "--grpc-port", str(self.grpc_port),
            "--state-dir", str(self.state_dir), "--records", str(self.records),
        ]  # fmt: skip
        self.router = RouterProcess(
            self.serving, command, log=self.folder / "router.log", environment=self._clock("router")
        )

    async def fleet(self) -> dict[str, dict[str, Any]]:
        """What the router says of each worker, by node."""
        async with _session() as session, session.get(f"{self.url}/admin/fleet") as reply:
            return {worker["node"]: worker for worker in (await reply.json())["workers"]}

    async def admin(self, verb: str, **body: Any) -> tuple[int, str]:
        """Ask an operator's endpoint; status and text."""
        async with _session() as session, session.post(f"{self.url}/admin/{verb}", json=body) as reply:
            return reply.status, await reply.text()

    async def all_ready(self) -> bool:
        """Whether every worker that should serves. Notes their ids."""
        try:
            fleet = await self.fleet()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        for name, worker in self.workers.items():
            worker.worker_id = fleet.get(name, {}).get("worker_id", "")
        return all(fleet.get(name, {}).get("state") == "ready" for name in self.workers)

    def jump_clock(self, who: str, by_s: float) -> None:
        """Set the wall clock of the router or a worker off by so many seconds."""
        file = self._clock_file(who)
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{by_s}\n")
        fresh.replace(file)

    # -- starting ---------------------------------------------------------------------------------------

    async def _between(self) -> None:
        simulated = [f"sim-{number + 1}" for number in range(SIMULATED_WORKERS)]
        if self.layout.proxied:
            for name in (*simulated, *(f"real-{number + 1}" for number in range(REAL_WORKERS))):
                self.proxies[name] = SilentProxy(self.grpc_port)
                await self.proxies[name].start()
        if self.layout.liars:
            for name in simulated:
                self.liars[name] = Liar(self.grpc_port)
                await self.liars[name].start()

    def _start_simulated(self, number: int) -> None:
        name = f"sim-{number}"
        quantization = ("q8_0", "q4_k_m")[number % 2]
        profile = self.folder / f"{name}.toml"
        text = _PROFILE.format(quantization=quantization, seed=number, load_s=0.1)
        profile.write_text(text)
        models = [f"{SIMULATED}={profile}"]
        if self.layout.loading:
            second = self.folder / f"{name}-second.toml"
            second.write_text(text.replace("load_s = 0.1", f"load_s = {_SLOW_LOAD_S}"))
            models.append(f"second={second}")
        self._start(name, "simulated", models, control=Path(f"{profile}.control"))

    def _start_real(self, number: int, file: Path) -> None:
        name = f"real-{number}"
        models = [f"{REAL}={file}"]
        measure = self.layout.loading and number == 1
        if measure:
            models += [f"{name}={other}" for other in self.models.values() for name in ("second", "third")]
        exact = self.folder / "exact.toml"
        exact.write_text("[options]\nexact = true\n" + ("draft_length = 2\n" if self.layout.draft else ""))
        settings = ("--slots", "16", "--context", "1024", "--threads", "1", "--config", str(exact))
        self._start(name, "llama.cpp", models, *settings, benchmark=measure)

    def _start_draft(self) -> None:
        """Of the smallest file: whoever is larger may be drafted for."""
        file = min(self.models.values(), key=lambda one: one.stat().st_size)
        settings = ("--role", "draft", "--slots", "16", "--context", "1024", "--threads", "1")
        self._start(DRAFT, "llama.cpp", [f"{REAL}={file}"], *settings)
        self.workers[DRAFT].engine = DRAFT

    def _start(
        self,
        name: str,
        engine: str,
        models: list[str],
        *more: str,
        control: Path | None = None,
        benchmark: bool = False,
    ) -> None:
        command = [
            *_ALLSORTS, "worker", "--router", f"127.0.0.1:{self._way_in(name)}", "--engine", engine,
            "--node", name, "--state-dir", str(self.folder / name),
            *(one for model in models for one in ("--model", model)), *more,
            *([] if benchmark else ["--no-benchmark"]),
        ]  # fmt: skip
        if engine != "simulated":  # what computes gives way to what has deadlines
            command = ["nice", "-n", "5", *command]
        environment = {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.folder / "cache"), **self._clock(name)}
        child = Child(name, command, log=self.folder / f"{name}.log", environment=environment)
        self.workers[name] = Worker(name, engine, child, control)

    def _way_in(self, name: str) -> int:
        if name in self.proxies:
            return self.proxies[name].port
        if name in self.liars:
            return self.liars[name].port
        return self.grpc_port

    def _clock(self, who: str) -> dict[str, str]:
        """What gives a process and all it starts a clock that can be set off, where the layout wants one."""
        if not self.layout.fake_clock:
            return {}
        self._clock_file(who).write_text("0\n")
        paths = [str(Path(__file__).with_name("faults") / "clock"), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "CHAOS_CLOCK": str(self._clock_file(who))}

    def _clock_file(self, who: str) -> Path:
        return self.folder / f"{who}.clock"

    async def _answers(self) -> bool:
        try:
            async with _session() as session, session.get(f"{self.url}/healthz") as reply:
                return reply.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _check_alive(self) -> None:
        for child in self._children():
            if not child.alive:
                raise NotReached(f"{child.name} ended while starting:\n{child.tail()}")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))


_ALLSORTS = (sys.executable, "-m", "router.cli.main")


def small_disk(folder: Path, size_bytes: int) -> bool:
    """Mount a disk of that size there; False where this may not be done."""
    if os.geteuid() != 0:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take the small disk away again."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
