"""``allsorts serve`` beyond loopback: not without keys, whatever serves; and with one, only to those who hold it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from router.domain.clock import SystemClock
from router.state.location import open_store
from router.trust.credentials import StoredCredentials
from tests.support.pool import free_port
from tests.support.processes import family_of
from tests.support.until import until_async

COMMAND = (sys.executable, "-m", "router.cli.main", "serve")
STARTS_WITHIN_S = 60.0


@contextlib.asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


@pytest.mark.parametrize("how", [["--without-ray"], []], ids=["uvicorn", "ray-serve"])
async def test_beyond_loopback_nothing_starts_without_keys(how: list[str], tmp_path: Path) -> None:
    """One line says what to do; neither Ray nor HAProxy was started, so nothing listened even for a moment."""
    ports = ("--port", str(free_port()), "--grpc-port", str(free_port()))
    async with serving("--host", "0.0.0.0", "--state-dir", str(tmp_path), *ports, *how) as process:
        seen: set[str] = set()
        while process.returncode is None:
            for one in family_of(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    seen |= {c.status for c in one.net_connections(kind="tcp")}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.05)
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
    assert process.returncode == 1
    assert "refusing to listen on 0.0.0.0 without API keys" in said
    assert "allsorts key create" in said
    assert "Traceback" not in said
    assert psutil.CONN_LISTEN not in seen


async def test_a_redis_that_is_away_is_one_line_at_the_start() -> None:
    """And no folder of that name takes its place: one once did, with no keys in it, and the router stood open."""
    ports = ("--port", str(free_port()), "--grpc-port", str(free_port()))
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with serving("--state-dir", url, "--without-ray", *ports) as process:
        async with asyncio.timeout(STARTS_WITHIN_S):
            await process.wait()
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
    assert process.returncode
    assert "Connection refused.; nothing was changed; check that the server runs" in said
    assert said.count("\n") == 1
    assert not Path("redis:").exists()


async def test_with_a_key_the_endpoint_listens_everywhere_and_lets_its_holder_in(tmp_path: Path) -> None:
    """The workers' door stays on loopback: nobody asked for another."""
    store = open_store(str(tmp_path))
    credentials = StoredCredentials(store=store, clock=SystemClock(), fingerprint=None, enrol_address=lambda: "")
    key = (await credentials.create_key({"name": "me"}))["key"]
    await store.close()
    port, grpc_port = free_port(), free_port()
    arguments = ("--host", "0.0.0.0", "--port", str(port), "--grpc-port", str(grpc_port), "--state-dir", str(tmp_path))
    async with serving(*arguments, "--without-ray") as process, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}"
        await until_up(client, url, process)
        refused = await client.get(f"{url}/v1/models")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert key not in refused.text
        allowed = await client.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
        assert allowed.status_code == 200
        for path in ("/admin/fleet", "/metrics"):
            beyond = await client.get(f"{url}{path}", headers={"authorization": f"Bearer {key}"})
            assert beyond.status_code == 403
        sockets = {
            (one.laddr.ip.removeprefix("::ffff:"), one.laddr.port)
            for one in psutil.Process(process.pid).net_connections(kind="tcp")
            if one.status == psutil.CONN_LISTEN
        }
        assert sockets == {("0.0.0.0", port), ("127.0.0.1", grpc_port)}


async def until_up(client: httpx.AsyncClient, url: str, process: asyncio.subprocess.Process) -> None:
    async def up() -> bool:
        assert process.returncode is None
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(f"{url}/healthz")).status_code == 200
        return False

    await until_async(up, f"{url} answers", within_s=STARTS_WITHIN_S)
