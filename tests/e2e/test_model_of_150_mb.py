"""A model file of 150 MB reaches a second node through a connection that is cut twice: real processes, real bytes."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.pool import free_port
from tests.support.until import until, until_async

ELSEWHERE = "127.0.0.2"
"""Where workers dial the router: all their connections pass the proxy there."""

SIZE = 150_000_000
FILE = "big-q8_0.gguf"
pytest.importorskip("llama_cpp")


@contextmanager
def process(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        made = subprocess.Popen(
            [sys.executable, "-m", "router.cli.main", *arguments], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield made
        finally:
            made.send_signal(signal.SIGINT)
            try:
                made.wait(30)
            except subprocess.TimeoutExpired:
                made.kill()
                made.wait()


@pytest.fixture
def router(tmp_path: Path) -> Iterator[tuple[str, int]]:
    port, grpc_port = free_port(), free_port()
    config = tmp_path / "router.toml"
    config.write_text(f'state_dir = "{tmp_path / "head"}"\n[grpc]\nadvertised_host = "{ELSEWHERE}"\n')
    arguments = ("--port", str(port), "--grpc-port", str(grpc_port), "--config", str(config))
    with process(tmp_path / "router.log", "serve", "--without-ray", *arguments):
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(url), (tmp_path / "router.log").read_text, within_s=60)
        yield url, grpc_port


@pytest.fixture
async def proxy(router: tuple[str, int]) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(router[1], SIZE // 3, 2 * SIZE // 3, host=ELSEWHERE, port=router[1]) as made:
        yield made


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


async def test_a_model_of_150_mb_comes_through_a_connection_that_is_cut_twice(
    router: tuple[str, int], proxy: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, by its hash; little of it twice; and the head says where it lies."""
    monkeypatch.setenv("ALLSORTS_WORKER_KEEP_FREE_BYTES", "0")
    url, grpc_port = router
    place = tmp_path / "a" / FILE
    place.parent.mkdir()
    data = os.urandom(2**20) * (SIZE // 2**20 + 1)
    place.write_bytes(data[:SIZE])
    sha256 = hashlib.sha256(data[:SIZE]).hexdigest()
    with ExitStack() as workers:
        for name in ("a", "b"):
            folders = ("--models", str(tmp_path / name), "--state-dir", str(tmp_path / f"state-{name}"))
            more = ("--router", f"{ELSEWHERE}:{grpc_port}", "--node", name, "--wait-for-models", *folders)
            workers.enter_context(process(tmp_path / f"{name}.log", "worker", *more))
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            async def held() -> list[str]:
                shown = (await client.get("/admin/models")).json()["models"]
                return [node for one in shown if one["content"] == sha256 for node in one["held_by"]]

            async def both() -> bool:
                return sorted(await held()) == ["a", "b"]

            async def asked() -> bool:
                reply = await client.post("/admin/models/pull", json={"node": "b", "content": sha256[:16]})
                return reply.status_code == 200

            await until_async(held, (tmp_path / "a.log").read_text, within_s=60, every_s=0.2)
            await until_async(asked, (tmp_path / "b.log").read_text, within_s=60, every_s=0.2)
            await until_async(both, (tmp_path / "b.log").read_text, within_s=120, every_s=0.2)
    assert hashlib.sha256((tmp_path / "b" / FILE).read_bytes()).hexdigest() == sha256
    assert sorted(one.name for one in (tmp_path / "b").rglob("*") if one.is_file()) == [FILE]
    assert proxy.times_cut == 2
    assert proxy.passed < 1.2 * SIZE
