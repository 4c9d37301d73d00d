"""Machines of a TLS pool whose models' files travel: the real worker over the echo engine, the real sessions."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from protos.contract.commands import RouterCommand
from protos.contract.events import FetchProgress
from protos.contract.files.hashing import HashCache
from protos.contract.files.library import ModelLibrary
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from tests.support.echo_engine import EchoEngine
from tests.support.joined import PROFILE, QUICK, join, running
from tests.support.tls_pool import Head
from tests.support.until import until_async
from workers.engines.base import ModelSpec
from workers.files.model_files import ModelFiles
from workers.models.disk import ModelDisk
from workers.server import build_worker
from workers.serving.model_manager import ModelManager
from workers.serving.worker import Worker, WorkerPlan
from workers.session.channel import ChannelSecurity, grpc_dial
from workers.session.session_pool import SessionPool

MODEL, QUANTIZATION = "big", "q8_0"
FILE = "big-q8_0.gguf"


def random_file(path: Path, size: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = os.urandom(size)
    path.write_bytes(data)
    return data


@dataclass
class Machine:
    """One worker, and the folder of its models."""

    head: Head
    worker_id: WorkerId
    models: Path
    worker: Worker
    files: ModelFiles
    engine: EchoEngine

    def send(self, command: RouterCommand) -> None:
        session = self.head.membership.session_of(self.worker_id)
        assert session is not None
        session.send(command)

    def held(self) -> set[str]:
        return {one.content.sha256 for one in self.head.membership.files.held_by(self.worker_id).models}

    async def until_held(self, sha256: str, within_s: float = 20.0) -> None:
        await until_async(lambda: sha256 in self.held(), lambda: f"held; {self.fetches()}", within_s=within_s)

    def fetches(self) -> tuple[FetchProgress, ...]:
        return self.head.membership.files.fetches_of(self.worker_id)

    async def until_failed(self) -> str:
        await until_async(lambda: any(one.error for one in self.fetches()), "an error")
        return next(one.error for one in self.fetches() if one.error)

    async def until_state(self, state: InstanceState) -> Any:
        def there() -> Any:
            member = self.head.membership.member(self.worker_id)
            return member and [one for (name, _), one in member.models.items() if name == MODEL and one.state is state]

        return (await until_async(there, state.value))[0]

    def left(self) -> list[str]:
        """Everything below the models folder, half files too."""
        return sorted(str(one.relative_to(self.models)) for one in self.models.rglob("*") if one.is_file())


@contextlib.asynccontextmanager
async def machine(
    head: Head, folder: Path, *, port: int = 0, keep_free_bytes: int = 0, serves: Path | None = None, **more: Any
) -> AsyncIterator[Machine]:
    """Joined and running. ``port``: of a proxy before the router; ``serves``: a model of it that is loaded."""
    name = folder.name
    joined = await join(head, await head.token(), folder / "state", replace(PROFILE, node=name))
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    made: list[ModelFiles] = []
    engine = EchoEngine()

    def files(sessions: SessionPool, manager: ModelManager, security: ChannelSecurity) -> ModelFiles:
        made.append(
            ModelFiles(
                ModelLibrary(models, HashCache(folder / "state" / "hashes.json")),
                ModelDisk(folder=models, keep_free_bytes=keep_free_bytes),
                sessions=sessions,
                served=manager.served,
                identified=manager.identify,
                security=security,
                **more,
            )
        )
        return made[0]

    specs = (ModelSpec(name=MODEL, path=str(serves), quantization=QUANTIZATION),) if serves else ()
    worker = build_worker(
        WorkerPlan(profile=replace(PROFILE, node=name), models=specs, drain_s=0.1),
        make_engine=lambda: engine,
        routers=(f"127.0.0.1:{port}",) if port else joined.membership.replicas,
        worker_id=joined.membership.worker_id,
        dial=grpc_dial(joined.files.security()),
        limits=QUICK,
        model_files=partial(files, security=joined.files.security()),
    )
    async with running(worker):
        worker_id = WorkerId(joined.membership.worker_id)
        await until_async(lambda: head.membership.connected(worker_id), "a session")
        yield Machine(head, worker_id, models, worker, made[0], engine)
