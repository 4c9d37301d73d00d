"""A worker over the echo engine whose router is played without a socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.joining.enrolment import EnrolReply
from protos.contract.worker import Hardware, Profile
from tests.support.echo_engine import EchoEngine
from tests.support.socketless import Session, SocketlessRouter
from workers.engines.base import Engine, ModelSpec
from workers.server import build_worker
from workers.serving.owner_pause import ConditionWatch, PauseFile
from workers.serving.worker import Ended, Worker, WorkerPlan
from workers.session.session import SessionLimits

PROFILE = Profile(node="testnode", hardware=Hardware(kind="cpu", name="test"), engine="echo")
QUICK = SessionLimits(backoff_first_s=0.001, backoff_last_s=0.002)


class Rig:
    """A worker, its router and the engines it made. ``enrols`` answers are given in turn."""

    def __init__(
        self,
        *,
        models: tuple[ModelSpec, ...] = (ModelSpec(name="echo", path="echo.file"),),
        worker_id: str = "w-1",
        enrol: Callable[[], Awaitable[EnrolReply]] | None = None,
        make_engine: Callable[[], Engine] | None = None,
        drain_s: float = 20.0,
        leave_unless_loaded: bool = False,
        pause: PauseFile | None = None,
        conditions: ConditionWatch | None = None,
        sleep_program: tuple[str, ...] | None = None,
        version: str = "",
    ) -> None:
        self.router = SocketlessRouter()
        self.engines: list[EchoEngine] = []
        self.worker: Worker = build_worker(
            WorkerPlan(
                profile=replace(PROFILE, version=version),
                models=models,
                drain_s=drain_s,
                leave_unless_loaded=leave_unless_loaded,
            ),
            make_engine=make_engine or self._make,
            routers=("router:1",),
            worker_id=worker_id,
            enrol=enrol,  # type: ignore[arg-type]
            dial=self.router.dial,
            limits=QUICK,
            pause=pause,
            conditions=conditions,
            sleep_program=sleep_program,
        )

    def _make(self) -> EchoEngine:
        self.engines.append(EchoEngine())
        return self.engines[-1]

    @property
    def engine(self) -> EchoEngine:
        return self.engines[-1]

    async def session(self, number: int = 1) -> Session:
        """The n-th session, once its model is ready."""
        return await (await self.router.session(number)).ready()


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[Ended]]:
    """The worker at work; afterwards its engines are closed, and no job or task of it is left."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(rig.worker.run())
    try:
        yield task
    finally:
        rig.worker.stop("test over")
        rig.worker.stop("test over")
        await asyncio.gather(task, return_exceptions=True)
        assert all(one.closed for one in rig.engines)
        assert repr(rig.worker).startswith("<Worker: 0 jobs")
        assert asyncio.all_tasks() - before == set()


def generate(request_id: str, text: str, **more: Any) -> dict[str, pb.Generate]:
    command = pb.Generate(request_id=request_id, attempt=1, model="echo", quantization="none", text=text, **more)
    return {"generate": command}
