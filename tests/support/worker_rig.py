"""A worker over the echo engine, and the sessions it opens to routers that a test plays."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.worker import Hardware, Profile
from tests.support.echo_engine import EchoEngine
from tests.support.fleet_servicer import Fleet, SessionEnd
from workers.engines.base import ModelSpec
from workers.server import build_worker
from workers.serving.worker import Ended, WorkerPlan
from workers.session.channel import grpc_dial
from workers.session.enrolment import enrol
from workers.session.session import SessionLimits

PROFILE = Profile(node="testnode", hardware=Hardware(kind="cpu", name="test"), engine="echo")
QUICK = SessionLimits(backoff_first_s=0.02, backoff_last_s=0.1)


class Rig:
    """A worker and the engines it made."""

    def __init__(
        self, *fleets: Fleet, model: str = "echo.file", limits: SessionLimits = QUICK, worker_id: str = ""
    ) -> None:
        self.engines: list[EchoEngine] = []
        self.engine_made = asyncio.Event()
        first = fleets[0].address
        self.worker = build_worker(
            WorkerPlan(profile=PROFILE, models=(ModelSpec(name="echo", path=model),), drain_s=0.2),
            make_engine=self._make,
            routers=(first,),
            worker_id=worker_id,
            enrol=lambda: enrol(first, PROFILE),
            dial=grpc_dial(None),
            limits=limits,
        )

    def _make(self) -> EchoEngine:
        self.engines.append(EchoEngine())
        self.engine_made.set()
        return self.engines[-1]

    @property
    def engine(self) -> EchoEngine:
        return self.engines[-1]


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[Ended]]:
    """The worker at work; afterwards it has ended and its engine is closed."""
    task = asyncio.create_task(rig.worker.run())
    try:
        yield task
    finally:
        rig.worker.stop("test over")
        rig.worker.stop("test over")
        await asyncio.gather(task, return_exceptions=True)
        assert rig.engine.closed
        leftovers = [
            one for one in asyncio.all_tasks() if one.get_name().startswith(("session ", "steps of", "submit "))
        ]
        assert leftovers == []


async def ready(fleet: Fleet, number: int = 1) -> SessionEnd:
    session = await fleet.session(number)
    await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_READY)
    return session


def generate(request_id: str, text: str, **more: object) -> dict[str, pb.Generate]:
    command = pb.Generate(request_id=request_id, attempt=1, model="echo", quantization="none", text=text, **more)
    return {"generate": command}
