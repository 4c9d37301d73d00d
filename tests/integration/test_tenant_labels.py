"""A tenant's prompts go only to machines allowed to see them: by key and by token, in every request and every move."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from protos.contract.joining.join_token import parse_token
from protos.contract.request import Job
from protos.contract.stream import Accepted
from protos.contract.worker import ModelInstance
from router.app import RouterNode
from router.config import AdmissionConfig, GrpcConfig, RouterConfig
from tests.support.echo_engine import EchoEngine
from tests.support.joined import PROFILE, QUICK
from tests.support.until import until_async
from workers.engines.base import ModelSpec, Progress
from workers.joining.join import join_fleet
from workers.server import build_worker
from workers.serving.worker import WorkerPlan
from workers.session.channel import grpc_dial

SECRET = "the patient is called"


class Witness(EchoEngine):
    """Remembers every prompt it was shown; says that it can go on with another's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def load(self, spec: ModelSpec, progress: Progress) -> ModelInstance:
        loaded = await super().load(spec, progress)
        return replace(loaded, capabilities=replace(loaded.capabilities, can_continue=True))

    async def submit(self, job: Job) -> Accepted:
        self.seen.append(job.messages[-1].content)
        return await super().submit(job)


class TwoSites:
    """A TLS pool with one machine of the clinic and one of nobody in particular."""

    def __init__(self, client: httpx.AsyncClient, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._admin = ""
        self.engines: dict[str, Witness] = {}
        self.tasks: dict[str, asyncio.Task[Any]] = {}

    async def post(self, path: str, key: str, body: dict[str, Any]) -> httpx.Response:
        return await self._client.post(path, json=body, headers={"authorization": f"Bearer {key}"} if key else {})

    async def key(self, **rules: Any) -> str:
        made = (await self.post("/admin/keys", self._admin, rules)).json()["key"]
        self._admin = self._admin or made
        return str(made)

    async def join(self, node: str, labels: dict[str, str]) -> None:
        made = (await self.post("/admin/tokens", self._admin, {"labels": labels})).json()
        address = made["line"].split()[2]
        profile = replace(PROFILE, node=node, labels={"site": "clinic"})  # claimed by both: only the token's count
        joined = await join_fleet(address, parse_token(made["token"]), profile, self._folder / node)
        engine = self.engines[node] = Witness()
        models = (ModelSpec(name="echo", path="echo.file", quantization="q8_0"),)
        worker = build_worker(
            WorkerPlan(profile=profile, models=models, drain_s=0.1),
            make_engine=lambda: engine,
            routers=joined.membership.replicas,
            worker_id=joined.membership.worker_id,
            dial=grpc_dial(joined.files.security()),
            limits=QUICK,
        )
        self.tasks[node] = asyncio.create_task(worker.run())

    async def until_ready(self, *nodes: str) -> None:
        headers = {"authorization": f"Bearer {self._admin}"}

        async def ready() -> bool:
            workers = (await self._client.get("/admin/fleet", headers=headers)).json()["workers"]
            return {one["node"] for one in workers if one["state"] == "ready"} == set(nodes)

        await until_async(ready, f"{' and '.join(nodes)} are ready")

    async def ask(self, key: str, words: str, **more: Any) -> httpx.Response:
        body = {"model": "echo", "messages": [{"role": "user", "content": words}], **more}
        return await self.post("/v1/chat/completions", key, body)

    async def leave(self, node: str) -> None:
        """As a machine that is unplugged: no goodbye."""
        self.tasks[node].cancel()
        await asyncio.gather(self.tasks[node], return_exceptions=True)


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[TwoSites]:
    node = RouterNode(
        RouterConfig(
            grpc=GrpcConfig(port=0, enrol_port=0, install_port=0, plain_loopback=False),
            admission=AdmissionConfig(patience_s=0.5),
            state_dir=str(tmp_path / "head"),
        )
    )
    await node.start()
    transport = httpx.ASGITransport(app=node)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        made = TwoSites(client, tmp_path)
        try:
            yield made
        finally:
            for name in made.tasks:
                await made.leave(name)
            await node.stop()


async def test_a_tenants_prompts_are_seen_by_its_own_machines_alone(sites: TwoSites) -> None:
    """Under load too, when the others are idle; and when its machine dies in mid-answer, the answer ends rather than
    move to a machine that must not see it.
    """
    await sites.key(name="admin", scopes=["admin", "observe"])
    clinic = await sites.key(name="clinic", labels={"site": "clinic"})
    anyone = await sites.key(name="anyone")
    await sites.join("ward", {"site": "clinic"})
    await sites.join("laptop", {})
    await sites.until_ready("ward", "laptop")

    answers = await asyncio.gather(*(sites.ask(clinic, f"{SECRET} {n}") for n in range(40)))
    assert {one.status_code for one in answers} == {200}
    assert {one.headers["x-allsorts-worker"] for one in answers} == {"ward"}

    sites.engines["ward"].gate.clear()
    asking = asyncio.create_task(sites.ask(clinic, f"{SECRET} unplugged", stream=True))
    await until_async(lambda: f"{SECRET} unplugged" in sites.engines["ward"].seen, "the ward has the prompt")
    await sites.leave("ward")
    events = [line.removeprefix("data: ") for line in (await asking).text.splitlines() if line]
    error = json.loads(events[-1])["error"]
    assert "lacks the label site=clinic" in error["message"]

    refused = await sites.ask(clinic, f"{SECRET} afterwards")
    assert refused.status_code == 503
    assert "laptop" in refused.text
    assert (await sites.ask(anyone, "still there?")).headers["x-allsorts-worker"] == "laptop"
    assert not [prompt for prompt in sites.engines["laptop"].seen if SECRET in prompt]
