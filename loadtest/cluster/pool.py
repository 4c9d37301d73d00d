"""The cluster under test: four Ray nodes, Redis, router replicas on two of them, workers as actors and joined ones.

The head and ``edge`` run router replicas, each behind the HAProxy of its node; ``gpu-a`` and ``gpu-b`` say that they
have four H100 each, and the fleet controller starts workers there as actors: simulated ones, and vLLM with AWQ weights
on ``gpu-b``. Two llama.cpp workers and a simulated one join from outside Ray.
"""

import asyncio
import os
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import psutil

from loadtest.chaos.answers import CONTEXT_TOKENS
from loadtest.chaos.pool import REAL, SIMULATED
from loadtest.chaos.waiting import NotReached, until
from loadtest.cluster.raylets import LoopbackCluster, NodeSpec
from loadtest.cluster.redis_server import RedisServer
from router.cli.support.processes import Child, stop_all
from router.ray.settings import free_port, node_environment

ROUTERS = {0: "head", 3: "edge"}
GPUS = {1: "gpu-a", 2: "gpu-b"}
ROUTER_LABEL, GPU_LABEL = {"allsorts": "router"}, {"allsorts": "gpu"}
SERVES_WITHIN_S, READY_WITHIN_S, STOPS_WITHIN_S = 180.0, 120.0, 60.0
CONNECTIONS = 4000
REAL_FILES = {one: Path(f"build/models/smollm2-135m-{one}.gguf") for one in ("q4_0", "q8_0")}
"""Formats whose answers do not depend on what runs beside them; K-quants' do."""
AWQ_FOLDER, VLLM_PYTHON = Path("build/models/smollm2-135m-awq"), Path(".venv-vllm/bin/python")
JOINED = {"joined-1", "real-1", "real-2"}

PROFILE = """machine = "{machine}"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 8192
slots = 96
[speed]
base_s = {step_s}
per_sequence_s = 0.0004
per_context_token_s = 1e-7
prefill_tokens_per_s = 40000
prefill_base_s = 0.005
kv_capacity_tokens = 600000
chunk_tokens = 2048
[behaviour]
hidden = 0.1
load_s = 0.2
"""


@dataclass(slots=True)
class ClusterPool:
    """Up between ``async with`` and its end."""

    folder: Path
    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    redis: RedisServer = field(init=False)
    cluster: LoopbackCluster = field(init=False)
    router: Child | None = None
    joined: list[Child] = field(default_factory=list)
    log: dict[str, str] = field(default_factory=dict)

    @property
    def urls(self) -> list[str]:
        """Of the HAProxy of every node with a router replica."""
        return [f"http://{self.cluster.address_of(number)}:{self.port}" for number in ROUTERS]

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._start_cluster)
            self._start_router()
            await until(self._all_serve, SERVES_WITHIN_S, "a router serves on both nodes", self._check)
            self._join("joined-1", "simulated", SIMULATED, self.profile("joined-1", "m1-max-64gb", 0.09))
            for number, file in enumerate(REAL_FILES.values()):
                self._join_real(f"real-{number + 1}", file.absolute())
            await until(lambda: self.ready(JOINED), READY_WITHIN_S, "joined workers", self._check)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stop)

    def _start_cluster(self) -> None:
        token = self.folder / "ray-token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        shared = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}
        shared |= {"PYTHONPATH": os.pathsep.join((str(Path.cwd()), os.environ.get("PYTHONPATH", "")))}
        os.environ.update(shared)  # what this process asks of Ray carries the token, too
        network = 1 + os.getpid() % 250
        names = {**ROUTERS, **GPUS}
        specs = []
        for number in sorted(names):
            work_dir = self.folder / names[number]
            work_dir.mkdir(parents=True)
            environment = node_environment(
                work_dir=work_dir, address=f"127.0.{network}.{number + 1}", connections=CONNECTIONS
            )
            gpu = number in GPUS
            environment |= {"XDG_STATE_HOME": str(work_dir / "state"), "XDG_CACHE_HOME": str(work_dir / "cache")}
            environment |= {"ALLSORTS_PYTHON_VLLM": str(VLLM_PYTHON.absolute())} if gpu else {}
            labels = {**(GPU_LABEL if gpu else ROUTER_LABEL), "allsorts.node": names[number]}
            specs.append(NodeSpec(name=names[number], gpus=4 if gpu else 0, labels=labels, environment=environment))
        self.redis = RedisServer(self.folder)
        self.redis.start()
        self.cluster = LoopbackCluster(self.folder, tuple(specs), environment=shared, network=network)
        self.cluster.__enter__()

    def _start_router(self) -> None:
        config = self.folder / "router.toml"
        labels = ", ".join(f'{key} = "{value}"' for key, value in ROUTER_LABEL.items())
        config.write_text(
            f"replicas = 2\n[serve]\nper_node = 1\ndrain_s = 5\nlabels = {{{labels}}}\n"
            f'[http]\nhost = "node"\nport = {self.port}\n[grpc]\nhost = "node"\nport = {self.grpc_port}\n'
        )
        command = [sys.executable, "-m", "router.cli.main", "serve", "--address", self.cluster.address]
        command += ["--config", str(config), "--state-dir", self.redis.url]
        self.router = Child("router", command, log=self.folder / "router.log")

    def _join_real(self, name: str, file: Path) -> None:
        exact = self.folder / "exact.toml"
        exact.write_text("[options]\nexact = true\n")  # an answer is the same whatever runs beside it
        settings = ("--slots", "16", "--context", str(CONTEXT_TOKENS), "--threads", "1", "--config", str(exact))
        self._join(name, "llama.cpp", REAL, file, *settings)

    def _join(self, name: str, engine: str, model: str, path: Path, *settings: str) -> None:
        command = [sys.executable, "-m", "router.cli.main", "worker", "--engine", engine, "--node", name, *settings]
        for number in ROUTERS:
            for port in (self.grpc_port, self.grpc_port + 1):
                command += ["--router", f"{self.cluster.address_of(number)}:{port}"]
        command += ["--model", f"{model}={path}", "--state-dir", str(self.folder / name), "--no-benchmark"]
        self.joined.append(Child(name, command, log=self.folder / f"{name}.log"))

    def profile(self, name: str, machine: str, step_s: float) -> Path:
        """A simulated engine's profile, in a file."""
        path = self.folder / f"{name}.toml"
        path.write_text(PROFILE.format(machine=machine, step_s=step_s))
        return path

    def _stop(self) -> None:
        stop_all([*([self.router] if self.router else []), *self.joined], STOPS_WITHIN_S)
        if hasattr(self, "cluster"):
            self.cluster.stop()
        if hasattr(self, "redis"):
            self.redis.stop()

    # -- asking ---------------------------------------------------------------------------------------

    async def fleet(self, url: str) -> dict[str, str]:
        """State of every worker, by node, as one replica behind this address has it. Empty: no answer."""
        try:
            async with session() as one, one.get(f"{url}/admin/fleet") as reply:
                if reply.status != 200:
                    return {}
                return {worker["node"]: worker["state"] for worker in (await reply.json())["workers"]}
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}

    async def ready(self, nodes: set[str]) -> bool:
        """Whether these are ready wherever one asks; asked often enough to meet both replicas behind each address."""
        for url in self.urls * 3:
            fleet = await self.fleet(url)
            if any(fleet.get(node) != "ready" for node in nodes):
                return False
        return True

    async def actors(self, model: str) -> set[str]:
        """Workers that were started for this model and serve."""
        fleet = await self.fleet(self.urls[0])
        return {node for node, state in fleet.items() if state == "ready" and node.startswith(f"{model}-")}

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Something of an operator's: status and text."""
        async with session() as one, one.request(method, self.urls[0] + path, json=body) as reply:
            return reply.status, await reply.text()

    async def want(self, models: list[dict[str, Any]]) -> None:
        """From now on. Raises NotReached with the router's line."""
        _, text = await self.ask("GET", "/admin/desired")
        version = msgspec.json.decode(text)["version"]
        status, text = await self.ask("POST", "/admin/desired", {"state": {"models": models}, "version": version})
        if status != 200:
            raise NotReached(f"the fleet's wishes were refused: {status} {text[:300]}")

    async def _all_serve(self) -> bool:
        for url in self.urls:
            try:
                async with session() as one, one.get(f"{url}/healthz") as reply:
                    if reply.status != 200:
                        return False
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False
        return True

    def _check(self) -> None:
        for child in (self.router, *self.joined):
            if child is not None and not child.alive:
                raise NotReached(f"{child.name} ended: {child.tail()}")

    # -- striking -------------------------------------------------------------------------------------

    def processes(self, node: str, title: str) -> list[psutil.Process]:
        """Of a Ray node, by what they call themselves."""
        return [one for one in self.cluster.nodes[node].family() if " ".join(_words(one)).startswith(title)]

    def holds(self, node: str, model: str) -> bool:
        """Whether a worker of this model runs on this Ray node."""
        return any(f"/actors/{model}@" in " ".join(_words(one)) for one in self.cluster.nodes[node].family())

    def kill(self, node: str, title: str) -> int:
        """SIGKILL to all of them; how many there were."""
        found = self.processes(node, title)
        for one in found:
            one.send_signal(signal.SIGKILL)
        return len(found)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has just ended


def session() -> aiohttp.ClientSession:
    """Short questions: a connection each, so that HAProxy chooses anew."""
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15), connector=connector)


def as_json(rows: list[Any]) -> bytes:
    """For the figures file."""
    return msgspec.json.format(msgspec.json.encode([msgspec.to_builtins(row) for row in rows]), indent=2) + b"\n"
