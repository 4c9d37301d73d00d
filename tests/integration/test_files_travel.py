"""A model's files reach the machine that lacks them, whole or not at all: real sessions, mutual TLS, real files."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.contract.codec.files import CHUNK_BYTES
from protos.contract.commands import POOL, FetchModel, LoadModel, RemoveModel, UnloadModel
from protos.contract.files.content import FilePart, ModelContent, content_of
from protos.contract.worker import InstanceState
from tests.support.cutting_proxy import CuttingProxy
from tests.support.file_pool import FILE, MODEL, QUANTIZATION, Machine, machine, random_file
from tests.support.tls_pool import Head, head
from tests.support.until import until_async
from workers.models.partial import BLOCK_BYTES

SIZE = 2 * BLOCK_BYTES + CHUNK_BYTES + 7


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as made:
        yield made
    assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("fetch ")]


def content(data: bytes, name: str = FILE) -> ModelContent:
    return content_of([FilePart(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())])


def fetch(wanted: ModelContent | None, *sources: str) -> FetchModel:
    return FetchModel(model=MODEL, quantization=QUANTIZATION, content=wanted, sources=sources)


async def test_a_model_comes_from_the_machine_that_has_it(pool: Head, tmp_path: Path) -> None:
    """Through the router, over streams of its own, to its place, byte for byte; nothing else is left there."""
    data = random_file(tmp_path / "a" / "models" / FILE, SIZE)
    wanted = content(data)
    async with machine(pool, tmp_path / "a") as a, machine(pool, tmp_path / "b") as b:
        await a.until_held(wanted.sha256)
        b.send(fetch(wanted))
        await b.until_held(wanted.sha256)
        assert (b.models / FILE).read_bytes() == data
        assert b.left() == [FILE]
        assert b.fetches() == ()


async def test_a_connection_that_is_cut_twice_is_gone_on_from(pool: Head, tmp_path: Path) -> None:
    """What has come is not fetched again, but for the block that was under way."""
    data = random_file(tmp_path / "a" / "models" / FILE, 5 * BLOCK_BYTES + 3)
    wanted, port = content(data), int(pool.session_address.rpartition(":")[2])
    async with (
        CuttingProxy(port, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES) as proxy,
        machine(pool, tmp_path / "a") as a,
        machine(pool, tmp_path / "b", port=proxy.port) as b,
    ):
        await a.until_held(wanted.sha256)
        b.send(fetch(wanted))
        await b.until_held(wanted.sha256)
        assert (b.models / FILE).read_bytes() == data
        assert proxy.times_cut == 2
        assert proxy.passed < len(data) + 3 * BLOCK_BYTES


async def test_a_source_that_goes_midway_is_followed_by_another(pool: Head, tmp_path: Path) -> None:
    """From where the first left off."""
    data = random_file(tmp_path / "a" / "models" / FILE, 3 * BLOCK_BYTES)
    (tmp_path / "c" / "models").mkdir(parents=True)
    os.link(tmp_path / "a" / "models" / FILE, tmp_path / "c" / "models" / FILE)
    wanted = content(data)
    async with machine(pool, tmp_path / "b", fetch_bytes_per_s=8e6) as b, machine(pool, tmp_path / "c") as c:
        async with machine(pool, tmp_path / "a") as a:
            await a.until_held(wanted.sha256)
            b.send(fetch(wanted))
            await until_async(lambda: any(one.done_bytes for one in b.fetches()), "a first block")
            await c.until_held(wanted.sha256)
        await b.until_held(wanted.sha256)
        assert (b.models / FILE).read_bytes() == data


@pytest.mark.parametrize("another", [True, False])
async def test_wrong_content_is_never_kept(pool: Head, tmp_path: Path, another: bool) -> None:
    """A file that was changed behind its hash's back: it comes from another machine, or not at all."""
    place = tmp_path / "a" / "models" / FILE
    data = random_file(place, SIZE)
    wanted = content(data)
    async with machine(pool, tmp_path / "a") as a, machine(pool, tmp_path / "b") as b:
        await a.until_held(wanted.sha256)
        about = place.stat()
        with place.open("r+b") as file:  # same size, time and inode
            file.seek(1000)
            file.write(b"damaged")
        os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
        if another:
            (tmp_path / "c" / "models").mkdir(parents=True)
            (tmp_path / "c" / "models" / FILE).write_bytes(data)
            async with machine(pool, tmp_path / "c") as c:
                await c.until_held(wanted.sha256)
                b.send(fetch(wanted))
                await b.until_held(wanted.sha256)
            assert (b.models / FILE).read_bytes() == data
        else:
            b.send(fetch(wanted))
            assert "every copy of" in await b.until_failed()
            assert FILE not in b.left()


async def test_no_room_is_said_in_one_line_before_anything_comes(pool: Head, tmp_path: Path) -> None:
    """With what to do; no half file."""
    data = random_file(tmp_path / "a" / "models" / FILE, SIZE)
    wanted = content(data)
    async with machine(pool, tmp_path / "a") as a, machine(pool, tmp_path / "b", keep_free_bytes=2**60) as b:
        await a.until_held(wanted.sha256)
        b.send(fetch(wanted))
        reason = await b.until_failed()
        assert "no room for big" in reason
        assert "--keep-free" in reason
        assert "\n" not in reason
        assert [one for one in b.left() if not one.endswith((".part", ".journal"))] == []


async def test_a_worker_told_to_load_what_it_lacks_fetches_it_first(pool: Head, tmp_path: Path) -> None:
    """It is shown as fetching, then loaded, and known by its content."""
    data = random_file(tmp_path / "a" / "models" / FILE, SIZE)
    wanted = content(data)
    async with machine(pool, tmp_path / "a") as a, machine(pool, tmp_path / "b", fetch_bytes_per_s=2e7) as b:
        await a.until_held(wanted.sha256)
        b.send(LoadModel(model=MODEL, quantization=QUANTIZATION, content=wanted, sources=(POOL,)))
        await b.until_state(InstanceState.FETCHING)
        loaded = await b.until_state(InstanceState.READY)
        assert loaded.quantization == QUANTIZATION
        await until_async(lambda: _content(b) == wanted.sha256, "its content")


async def test_what_cannot_be_had_is_a_model_that_failed(pool: Head, tmp_path: Path) -> None:
    """With the reason, as of any load."""
    async with machine(pool, tmp_path / "b") as b:
        b.send(LoadModel(model=MODEL, quantization=QUANTIZATION, content=content(b"nobody has it"), sources=()))
        failed = await b.until_state(InstanceState.FAILED)
        assert "nobody in the pool has the file" in failed.error


async def test_a_model_that_is_loaded_is_not_taken_away(pool: Head, tmp_path: Path) -> None:
    """Nor one being loaded; once it is unloaded it may go."""
    place = tmp_path / "a" / "models" / FILE
    wanted = content(random_file(place, 1000))
    remove = RemoveModel(model=MODEL, quantization=QUANTIZATION, content=wanted.sha256)
    async with machine(pool, tmp_path / "a", serves=place) as a:
        await a.until_held(wanted.sha256)
        a.send(remove)
        assert "not removed: it is loaded or being loaded here" in await a.until_failed()
        assert place.exists()
        a.send(UnloadModel(model=MODEL, quantization=QUANTIZATION))
        await until_async(lambda: not _models(a), "it is unloaded")
        a.send(remove)
        await until_async(lambda: not a.held(), "it is gone")
        assert a.left() == []


async def test_a_model_outside_the_models_folder_is_its_owners(pool: Head, tmp_path: Path) -> None:
    """The pool deletes nothing there."""
    place = tmp_path / "elsewhere" / FILE
    wanted = content(random_file(place, 1000))
    async with machine(pool, tmp_path / "a", serves=place) as a:
        await a.until_held(wanted.sha256)
        a.send(UnloadModel(model=MODEL, quantization=QUANTIZATION))
        await until_async(lambda: not _models(a), "it is unloaded")
        a.send(RemoveModel(model=MODEL, quantization=QUANTIZATION, content=wanted.sha256))
        assert "not removed" in await a.until_failed()
        assert place.exists()


async def test_who_shares_nothing_is_asked_for_nothing(pool: Head, tmp_path: Path) -> None:
    """And who lets nothing come gets nothing."""
    data = random_file(tmp_path / "a" / "models" / FILE, 1000)
    wanted = content(data)
    async with machine(pool, tmp_path / "a", shares=False) as a, machine(pool, tmp_path / "b", fetches=False) as b:
        await a.until_held(wanted.sha256)
        assert pool.membership.files.holders(wanted.parts[0].sha256) == ()
        b.send(fetch(wanted))
        assert "its owner lets nothing be fetched" in await b.until_failed()


def _models(one: Machine) -> list[object]:
    member = one.head.membership.member(one.worker_id)
    return list(member.models) if member is not None else []


def _content(one: Machine) -> str:
    member = one.head.membership.member(one.worker_id)
    assert member is not None
    return next(iter(member.models.values())).content
