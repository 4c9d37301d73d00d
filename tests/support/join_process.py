"""``allsorts join`` as a process, and a question to the worker it becomes."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.contract.commands import Generate
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job, Sampling
from protos.contract.stream import Delta
from router.domain.stream import AttemptEvent
from router.domain.worker import WorkerState
from router.fleet.member import Member
from tests.support.tls_pool import Head
from tests.support.until import until_changed

MODULE = (sys.executable, "-m", "workers.cli.join")
COMMAND = (str(Path(sys.executable).with_name("allsorts")), "join")
"""As the printed line has it."""
LEAVE = (sys.executable, "-m", "workers.cli.leave")
PAUSE = (sys.executable, "-m", "workers.cli.pause")
RESUME = (sys.executable, "-m", "workers.cli.resume")


@contextlib.asynccontextmanager
async def joining(
    *arguments: str,
    within: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    program: tuple[str, ...] = MODULE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *within, *program, *arguments, env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run_to_end(*arguments: str, within: tuple[str, ...] = ()) -> tuple[int | None, str]:
    """Exit status and what it said."""
    async with joining(*arguments, within=within) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, err.decode()


async def ready(pool: Head, process: asyncio.subprocess.Process) -> Member:
    """The member once it is ready; fails at once when the process ends before that."""
    changed = asyncio.Event()
    pool.membership.on_change(lambda _: changed.set())
    ended = asyncio.create_task(process.wait())
    ended.add_done_callback(lambda _: changed.set())

    def there() -> Member | None:
        assert not ended.done(), "it ended before it was ready"
        ready = (one.profile.worker_id for one in pool.membership.snapshot().workers if one.state is WorkerState.READY)
        return next(map(pool.membership.member, ready), None)

    try:
        found: Member = await until_changed(changed, there, within_s=60.0)
        return found
    except AssertionError:
        assert process.stderr is not None
        pytest.fail((await process.stderr.read()).decode())
    finally:
        ended.cancel()


async def ask(pool: Head, member: Member, sampling: Sampling | None = None) -> str:
    """One question over the session; the whole answer."""
    session = pool.membership.session_of(member.worker_id)
    assert session is not None
    heard: list[str] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def sink(event: AttemptEvent) -> None:
        if isinstance(event, Delta):
            heard.append(event.text)
            if event.finish_reason is not None and not done.done():
                done.set_result(None)

    session.open((RequestId("r"), 1), sink)
    ((model, quantization),) = member.models
    job = Job(
        request_id=RequestId("r"),
        attempt=1,
        model=model,
        quantization=quantization,
        messages=(ChatMessage(role="user", content="What is the capital of France?"),),
        sampling=sampling or Sampling(max_tokens=32, temperature=0.0),
    )
    session.send(Generate(job=job))
    await asyncio.wait_for(done, 60)
    return "".join(heard)
