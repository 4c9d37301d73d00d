"""Models from web servers: ranges, broken connections, repositories; a server of this test's own."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from protos.contract.events import FetchProgress
from protos.contract.files.content import FilePart, content_of
from protos.contract.files.hashing import HashCache
from protos.contract.files.library import ModelLibrary
from workers.models import partial, transfer
from workers.models.disk import ModelDisk
from workers.models.fetcher import Fetcher, Wanted
from workers.models.sources import FetchFailed
from workers.models.web import BadSource, WebSource

BLOCK = 64 * 1024
DATA = os.urandom(5 * BLOCK + 99)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (partial, transfer):
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.01)


class Server:
    """Gives ``files``. ``breaks``: so many answers end after two blocks; ``ranges``: whether it knows them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"m-q8_0.gguf": DATA}
        self.breaks = 0
        self.ranges = True
        self.asked: list[tuple[str, str, str]] = []
        self.siblings: list[dict[str, Any]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        heads = request.headers
        self.asked.append((request.path, heads.get("range", ""), heads.get("authorization", "")))
        if request.path.startswith("/api/models/"):
            return web.json_response({"siblings": self.siblings})
        data = self.files.get(request.path.rpartition("/")[2])
        if data is None:
            return web.Response(status=404)
        begin = int(heads["range"].split("=")[1].rstrip("-")) if self.ranges and "range" in heads else 0
        reply = web.StreamResponse(status=206 if begin else 200)
        reply.content_length = len(data) - begin
        await reply.prepare(request)
        if request.method == "HEAD":
            return reply
        if self.breaks:
            self.breaks -= 1
            await reply.write(data[begin : begin + 2 * BLOCK])
            await asyncio.sleep(0.05)
            assert request.transport is not None
            request.transport.abort()
            return reply
        await reply.write(data[begin:])
        return reply


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    runner = web.ServerRunner(web.Server(made.answer))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def fetcher(folder: Path, **more: Any) -> Fetcher:
    library = ModelLibrary(folder, HashCache(None))
    return Fetcher(library, ModelDisk(folder=folder, keep_free_bytes=0), patience_s=0.5, **more)


def wanted(text: str, sha256: str = "", **environment: str) -> Wanted:
    content = content_of([FilePart(name="m-q8_0.gguf", size_bytes=len(DATA), sha256=sha256)]) if sha256 else None
    return Wanted(model="m", quantization="q8_0", sources=[WebSource(text, environment)], content=content)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("known", [True, False])
async def test_a_file_comes_whole_however_often_it_breaks_off(
    server: Server, tmp_path: Path, ranges: bool, known: bool
) -> None:
    """By ranges, or all again from a server that knows none; with or without a hash to compare."""
    server.breaks, server.ranges = 2 if ranges else 0, ranges
    heard: list[FetchProgress] = []
    path = await fetcher(tmp_path).fetch(
        wanted(f"{server.url}/x/m-q8_0.gguf?key=secret", SHA256 if known else ""), heard.append
    )
    assert path == tmp_path / "m-q8_0.gguf"
    assert path.read_bytes() == DATA
    assert heard[-1].done_bytes == heard[-1].total_bytes == len(DATA)
    assert "secret" not in heard[-1].source
    if ranges:
        begins = [int(one[6:-1]) // BLOCK for _, one, _ in server.asked if one]
        assert len(begins) == 2
        assert 0 < begins[0] < begins[1]  # a connection that breaks takes what is on its way with it


@pytest.mark.parametrize(
    ("file", "sha256", "says"),
    [("m-q8_0.gguf", "ab" * 32, "is not the one wanted"), ("nothing.gguf", "", "404 Not Found; check the name")],
)
async def test_what_is_not_the_file_is_not_kept(
    server: Server, tmp_path: Path, file: str, sha256: str, says: str
) -> None:
    """In one line."""
    with pytest.raises(FetchFailed, match=says):
        await fetcher(tmp_path).fetch(wanted(f"{server.url}/{file}", sha256), lambda _: None)
    assert list(tmp_path.rglob("*.gguf")) == []


async def test_a_server_that_is_away_is_given_up_in_time(tmp_path: Path) -> None:
    """With what it said last."""
    with pytest.raises(FetchFailed, match="nothing came for"):
        await fetcher(tmp_path).fetch(wanted("http://127.0.0.1:9/m-q8_0.gguf", SHA256), lambda _: None)


async def test_several_who_want_one_model_share_a_fetch(server: Server, tmp_path: Path) -> None:
    """The file is asked for once; one that gives up does not end it for the other."""
    one = fetcher(tmp_path)
    asked = [asyncio.create_task(one.fetch(wanted(f"{server.url}/m-q8_0.gguf", SHA256), lambda _: None)) for _ in "123"]
    await asyncio.sleep(0)
    asked[0].cancel()
    paths = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(paths[0], asyncio.CancelledError)
    assert paths[1] == paths[2] == tmp_path / "m-q8_0.gguf"
    assert len(server.asked) == 1


async def test_a_repository_is_all_its_files(server: Server, tmp_path: Path) -> None:
    """Without its readme; the hub's hashes are believed no further than they hold; the key goes there alone."""
    files = {"config.json": b"{}", "model.safetensors": b"w" * 100, "README.md": b"no"}
    server.files = files
    server.siblings = [
        {"rfilename": name, "size": len(data), "lfs": {"sha256": hashlib.sha256(data).hexdigest()}}
        for name, data in files.items()
    ]
    del server.siblings[0]["lfs"]  # of small files the hub tells no such hash
    environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": "secret"}
    path = await fetcher(tmp_path).fetch(wanted("hf:owner/name", **environment), lambda _: None)
    assert path == tmp_path / "m@q8_0"
    assert sorted(one.name for one in path.iterdir()) == ["config.json", "model.safetensors"]
    assert {key for _, _, key in server.asked} == {"Bearer secret"}


async def test_a_name_in_a_repository_leads_nowhere_else(server: Server, tmp_path: Path) -> None:
    """A hostile list writes nothing outside."""
    server.siblings = [{"rfilename": "..\\x.json", "size": 1}]
    with pytest.raises(FetchFailed, match="cannot be the name"):
        await fetcher(tmp_path).fetch(wanted("hf:o/n", HF_ENDPOINT=server.url), lambda _: None)


@pytest.mark.parametrize(
    "text", ["", "file:///etc/passwd", "ftp://x/y", "hf:", "hf:one", "hf:a/b/c/d", "https://", "m.gguf"]
)
def test_what_is_no_source_says_what_one_is(text: str) -> None:
    """Before anything is asked."""
    with pytest.raises(BadSource, match="is no source: write"):
        WebSource(text, {})
