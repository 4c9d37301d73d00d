"""The pool that is attacked: a router as its user starts it, and two simulated workers."""

import asyncio
import contextlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from loadtest.attack.target import Pool
from loadtest.chaos.routers import RouterProcess, Serving
from loadtest.chaos.waiting import NotReached, until
from loadtest.cluster.redis_server import RedisServer
from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all

MODEL = "simulated-8b"
WORKERS = 2
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 30.0

_PROFILE = """machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 8192
slots = 32
[speed]
base_s = 0.03
per_sequence_s = 0.0004
per_context_token_s = 1e-7
prefill_tokens_per_s = 40000
prefill_base_s = 0.005
kv_capacity_tokens = 600000
chunk_tokens = 2048
[behaviour]
hidden = 0.1
seed = 1
load_s = 0.1
"""
_ALLSORTS = (sys.executable, "-m", "router.cli.main")


@dataclass(slots=True)
class AttackedPool:
    """Up between ``async with`` and its end."""

    folder: Path
    serving: Serving
    kind: Pool = Pool.OPEN
    key: str = ""  # of the operator and of honest clients, where it is guarded
    enrol_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    workers: list[Child] = field(default_factory=list)
    router: RouterProcess = field(init=False)
    redis: RedisServer | None = None  # where its state is in one

    @property
    def guarded(self) -> bool:
        """Whether workers join over TLS and clients have keys."""
        return self.kind is not Pool.OPEN

    @property
    def redis_url(self) -> str:
        """Empty: the state is in files."""
        return self.redis.url if self.redis is not None else ""

    async def mend(self) -> None:
        """Give it back what an attack took away beside it."""
        if self.redis is not None:
            await asyncio.to_thread(self.redis.start)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)  # an earlier run's keys would be asked for
        self.folder.mkdir(parents=True)
        if self.kind is Pool.STORED:
            self.redis = RedisServer(self.folder)
            await asyncio.to_thread(self.redis.start)
        config = self.folder / "router.toml"
        install_port = free_port()
        config.write_text(
            f"[grpc]\nplain_loopback = false\nenrol_port = {self.enrol_port}\ninstall_port = {install_port}\n"
            if self.guarded
            else ""
        )
        command = [
            *_ALLSORTS, "serve", "--config", str(config), "--port", str(self.port), "--grpc-port", str(self.grpc_port),
            "--state-dir", self.redis_url or str(self.folder / "router"),
        ]  # fmt: skip
        self.router = RouterProcess(self.serving, command, log=self.log, environment={})
        try:
            await until(self._answers, READY_WITHIN_S, "the router answers", self._check_alive)
            if self.guarded:
                made = await self.post("/admin/keys", name="operator", scopes=["admin", "serve", "observe"])
                self.key = str(made["key"])
            for number in range(WORKERS):
                await self._start_worker(f"sim-{number + 1}")
            await until(self._all_ready, READY_WITHIN_S, "the workers are ready", self._check_alive)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(stop_all, [self.router.child, *self.workers], STOP_WITHIN_S)
        if self.redis is not None:
            await asyncio.to_thread(self.redis.stop)

    @property
    def log(self) -> Path:
        """The router's."""
        return self.folder / "router.log"

    @property
    def log_bytes(self) -> int:
        """What the router has logged so far."""
        return self.log.stat().st_size

    async def _start_worker(self, name: str) -> None:
        profile = self.folder / f"{name}.toml"
        profile.write_text(_PROFILE)
        how = ["worker", "--router", f"127.0.0.1:{self.grpc_port}"]
        if self.guarded:
            token = (await self.post("/admin/tokens", uses=1))["token"]
            (self.folder / f"{name}.token").write_text(str(token))
            how = ["join", f"127.0.0.1:{self.enrol_port}", "--token", f"@{self.folder / f'{name}.token'}", "--yes"]
        command = [
            *_ALLSORTS, *how, "--engine", "simulated", "--node", name, "--state-dir", str(self.folder / name),
            "--model", f"{MODEL}={profile}", "--no-benchmark",
        ]  # fmt: skip
        self.workers.append(Child(name, command, log=self.folder / f"{name}.log"))

    @property
    def headers(self) -> dict[str, str]:
        """Of an honest client, and of the operator."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    async def post(self, path: str, **body: object) -> dict[str, Any]:
        """An operator's order. Raises aiohttp.ClientError."""
        async with (
            aiohttp.ClientSession(headers=self.headers) as session,
            session.post(self.url + path, json=body) as reply,
        ):
            reply.raise_for_status()
            return dict(await reply.json())

    async def _answers(self) -> bool:
        return await self._get("/healthz") is not None

    async def _all_ready(self) -> bool:
        fleet = await self._get("/admin/fleet")
        return fleet is not None and sum(one["state"] == "ready" for one in fleet["workers"]) >= WORKERS

    async def _get(self, path: str) -> dict[str, list[dict[str, str]]] | None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            timeout = aiohttp.ClientTimeout(total=10)
            session = aiohttp.ClientSession(timeout=timeout, headers=self.headers)
            async with session, session.get(self.url + path) as reply:
                found: dict[str, list[dict[str, str]]] = await reply.json()
                return found if reply.status == 200 else None
        return None

    def _check_alive(self) -> None:
        for child in (self.router.child, *self.workers):
            if not child.alive:
                raise NotReached(f"{child.name} ended while starting:\n{child.tail()}")
