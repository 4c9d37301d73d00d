"""``allsorts join`` on a terminal: its owner is asked first, and reads steps, not logs."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.join_process import MODULE, ready
from tests.support.plain_openai import plain_openai
from tests.support.tls_pool import Head, head


class Terminal:
    """A process on a terminal of its own: what it shows, and keys for it."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.shown = ""
        self._descriptor = descriptor
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.shown += data.decode(errors="replace")
        self._more.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.shown:
                self._more.clear()
                await self._more.wait()

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


@contextlib.asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *MODULE, *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "200"}
    )
    os.close(theirs)
    one = Terminal(process, ours)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        one.close()


@pytest.fixture
def upstream() -> Iterator[str]:
    with plain_openai() as url:
        yield url


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
async def test_the_owner_is_asked_before_anything_is_done_and_reads_no_logs(
    pool: Head, upstream: str, tmp_path: Path
) -> None:
    """No: nothing is written and no token used. Yes: steps on the terminal, JSON lines in the file that was named."""
    state = tmp_path / "mac"
    line = (pool.enrol_address, "--token", await pool.token(), "--engine", "openai", "--base-url", upstream)
    more = ("--node", "mac", "--state-dir", str(state), "--no-benchmark")
    async with terminal(*line, *more) as refused:
        await refused.until("go on")
        assert f"{state} (keys; logs: {state / 'logs/mac.log'})" in refused.shown
        refused.type("n\n")
        await refused.until("nothing was done")
        assert await asyncio.wait_for(refused.process.wait(), 60) == 0
    assert not state.exists()
    assert await pool.audit("join.admitted") == []
    async with terminal(*line, *more) as agreed:
        await agreed.until("go on")
        agreed.type("\n")
        await ready(pool, agreed.process)
        await agreed.until("is serving")
        agreed.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agreed.process.wait(), 60)
        assert '{"' not in agreed.shown
        assert "session.opened" not in agreed.shown
    logged = [json.loads(one) for one in (state / "logs/mac.log").read_text().splitlines()]
    assert {"worker.started", "session.opened", "worker.complete"} <= {one["event"] for one in logged}
