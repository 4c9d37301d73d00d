"""A machine that joined a test's pool: from its token to a worker that serves, and a bare hello."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from tests.support.echo_engine import EchoEngine
from tests.support.tls_pool import Head
from workers.engines.base import ModelSpec
from workers.joining.join import Joined, join_fleet
from workers.server import build_worker
from workers.serving.worker import Ended, Worker, WorkerPlan
from workers.session.channel import grpc_dial, open_channel
from workers.session.session import SessionLimits

PROFILE = Profile(node="mac", hardware=Hardware(kind="apple", name="Apple M4"), engine="echo")
QUICK = SessionLimits(backoff_first_s=0.02, backoff_last_s=0.1)


async def join(pool: Head, token: str | None, state_dir: Path, profile: Profile = PROFILE) -> Joined:
    parsed = parse_token(token) if token else None
    return await join_fleet(pool.enrol_address, parsed, profile, state_dir)


def worker_of(joined: Joined) -> Worker:
    return build_worker(
        WorkerPlan(profile=PROFILE, models=(ModelSpec(name="echo", path="echo.file"),), drain_s=0.2),
        make_engine=EchoEngine,
        routers=joined.membership.replicas,
        worker_id=joined.membership.worker_id,
        dial=grpc_dial(joined.files.security()),
        limits=QUICK,
    )


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[Ended]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop("test over")
        worker.stop("test over")
        await asyncio.gather(task, return_exceptions=True)


async def hello(pool: Head, joined: Joined, message: pb.Hello) -> pb.RouterCommand:
    """Say hello with a certificate; the first command that is no dismissal."""
    async with open_channel(pool.session_address, joined.files.security()) as channel:
        call = FleetStub(channel).Session()
        await call.write(pb.WorkerEvent(hello=message))
        command = await asyncio.wait_for(call.read(), 60)
        while command is not grpc.aio.EOF and command.WhichOneof("command") == "dismiss":
            command = await asyncio.wait_for(call.read(), 60)
        if command is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(await call.code(), None, None, details=await call.details())  # type: ignore[arg-type]
        call.cancel()
        return command
