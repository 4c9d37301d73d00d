"""A router replica comes to another under load and goes again: nobody is refused meanwhile, at either."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from router import app
from router.app import RouterNode
from router.config import AdmissionConfig, GrpcConfig, HttpConfig, RouterConfig
from router.domain.worker import WorkerState
from tests.support.echo_engine import EchoEngine
from tests.support.joined import PROFILE, QUICK, running
from tests.support.until import until_async
from workers.engines.base import ModelSpec
from workers.server import build_worker
from workers.serving.worker import Worker, WorkerPlan
from workers.session.channel import grpc_dial
from workers.session.enrolment import enrol_anywhere

COMES_AND_GOES = 2
"""How often the second one does."""


class Replica:
    """A router as whoever serves it has it: started and stopped by ASGI's lifespan alone."""

    def __init__(self, folder: Path, rank: int) -> None:
        config = RouterConfig(
            replicas=2,
            grpc=GrpcConfig(port=0),
            http=HttpConfig(),
            admission=AdmissionConfig(patience_s=0.0),  # who meets no worker is refused at once: nothing hides it
            state_dir=str(folder / "state"),
        )
        self.node = RouterNode(config, rank=rank)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[httpx.AsyncClient]:
        """From ``startup.complete``, when requests may come, to its shutdown."""
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        said: asyncio.Queue[Any] = asyncio.Queue()
        life = asyncio.create_task(self.node({"type": "lifespan"}, told.get, said.put))
        await told.put({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        transport = httpx.ASGITransport(app=self.node)  # type: ignore[arg-type]
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
                yield client
        finally:
            await told.put({"type": "lifespan.shutdown"})
            await life


def worker_of(address: str) -> Worker:
    """It enrols at one replica, and finds the others by itself."""
    profile = replace(PROFILE, node="box")
    return build_worker(
        WorkerPlan(profile=profile, models=(ModelSpec(name="echo", path="echo.file"),), drain_s=0.2),
        make_engine=EchoEngine,
        routers=(address,),
        enrol=partial(enrol_anywhere, (address,), profile),
        dial=grpc_dial(None),
        limits=QUICK,
    )


def serves(replica: Replica) -> bool:
    """A worker is ready there."""
    return [one.state for one in replica.node.membership.snapshot().workers] == [WorkerState.READY]


async def ask(client: httpx.AsyncClient) -> str:
    """Empty: it was answered."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    reply = await client.post("/v1/chat/completions", json=body)
    return "" if reply.status_code == 200 else f"{reply.status_code} {reply.text[:200]}"


async def asking(client: httpx.AsyncClient, over: asyncio.Event, refused: list[str], counts: list[int]) -> None:
    """One request after the other, until it is over."""
    while not over.is_set():
        if why := await ask(client):
            refused.append(why)
        counts[0] += 1
        await asyncio.sleep(0)


async def test_nobody_is_refused_while_a_replica_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its first request once a worker has found it; the other's clients notice nothing of it."""
    monkeypatch.setattr(app, "WARM_UP_S", 120.0)  # it takes requests because a worker is there, and for no other reason
    first, over, refused, counts = Replica(tmp_path, 0), asyncio.Event(), list[str](), [0]
    async with first.serving() as client:
        assert first.node._running is not None
        async with running(worker_of(first.node._running.listening.replica.address)):
            await until_async(lambda: serves(first), "the worker is at the first replica")
            crowd = [asyncio.create_task(asking(client, over, refused, counts)) for _ in range(3)]
            try:
                for _ in range(COMES_AND_GOES):
                    second = Replica(tmp_path, 1)
                    async with second.serving() as beside:
                        refused += [why for _ in range(5) if (why := await ask(beside))]
                    before = counts[0]
                    await until_async(lambda before=before: counts[0] > before, "the first one serves on")
            finally:
                over.set()
                await asyncio.gather(*crowd)
    assert refused == []
