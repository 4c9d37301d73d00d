"""The head hands itself out: who gets what, over which certificates, and what a changed file is worth."""

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest

from protos.contract.joining.certificates import SERVER_NAME
from router.dist import bare_machine, door
from router.dist.builds import Builds
from router.dist.door import Door, open_door
from router.dist.own_wheel import own_wheel
from router.dist.shelf import Shelf, shelf_folder
from router.errors import ConfigError
from tests.support.joined import join
from tests.support.tls_pool import Head, ShiftedClock, head
from workers.installing.door_client import Credentials, DoorClient, NotOffered
from workers.joining.membership_files import MembershipFiles
from workers.joining.pinning import fetch


@dataclass
class Open:
    """A head whose install port is open."""

    pool: Head
    door: Door
    clock: ShiftedClock

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.door.port}"

    async def get(self, path: str, token: str = "", files: MembershipFiles | None = None) -> tuple[int, bytes]:
        assert self.pool.security.authority is not None
        context = ssl.create_default_context(cadata=self.pool.security.authority.certificate_pem.decode())
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession() as session:
            url = f"https://{self.address}{path}"
            async with session.get(url, headers=headers, ssl=context, server_hostname=SERVER_NAME) as answer:
                return answer.status, await answer.read()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    clock = ShiftedClock()
    async with head(tmp_path / "head", clock=clock) as pool, _door(pool, clock) as port:
        yield Open(pool, port, clock)


@contextlib.asynccontextmanager
async def _door(pool: Head, clock: ShiftedClock) -> AsyncIterator[Door]:
    port = await open_door(pool.security, pool.security.config, clock)
    assert port is not None
    try:
        yield port
    finally:
        await port.close()


async def test_whoever_holds_a_token_gets_the_heads_own_wheel(opened: Open, tmp_path: Path) -> None:
    """Named and hashed in the offer; a token that is used up by its machine still fetches."""
    token = await opened.pool.token()
    wheel = own_wheel()
    status, offer = await opened.get("/offer.json", token)
    expected = {"wheel": wheel.name, "wheel_sha256": wheel.sha256, "packages": [], "builds": []}
    assert (status, json.loads(offer)) == (200, expected)
    await join(opened.pool, token, tmp_path / "mac")
    status, data = await opened.get(f"/files/{wheel.name}", token)
    assert (status, hashlib.sha256(data).hexdigest()) == (200, wheel.sha256)


async def test_nobody_else_gets_it_and_each_hears_why(opened: Open, tmp_path: Path) -> None:
    """No token, a damaged one, a wrong secret, another pool's, an expired one."""
    token = await opened.pool.token(ttl_s=60)
    async with head(tmp_path / "other") as other:
        foreign = await other.token()
    cases = {
        "": (401, "show a join token"),
        "rubbish": (401, "not a join token"),
        token[:-4] + "zzzz": (403, "not known here"),
        foreign: (403, "another pool"),
    }
    for text, (status, said) in cases.items():
        for path in ("/offer.json", f"/files/{own_wheel().name}", "/files/x", "/nothing"):
            told = await opened.get(path, text)
            assert told[0] == status, told
            assert said in told[1].decode()
    opened.clock.shift_s = 3600
    status, told = await opened.get("/offer.json", token)
    assert (status, b"has expired" in told) == (403, True)


async def test_a_machine_that_has_joined_needs_no_token_until_it_is_revoked(opened: Open, tmp_path: Path) -> None:
    """Its certificate speaks for it: so it is brought level when the head is newer."""
    mine = await join(opened.pool, await opened.pool.token(), tmp_path / "mac")
    assert (await opened.get("/offer.json", files=mine.files))[0] == 200
    await opened.pool.security.intent.revoke(mine.membership.worker_id, mine.membership.node, "sold")
    status, told = await opened.get("/offer.json", files=mine.files)
    assert (status, b"revoked" in told) == (403, True)


async def test_wheels_beside_it_are_offered_by_hash_and_nothing_outside_their_folder(opened: Open) -> None:
    """A name is a wheel's name; links and paths lead nowhere."""
    shelf = Shelf(shelf_folder(opened.pool.security.config.state_dir))
    shelf.folder.mkdir()
    name = "numpy-2.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    (shelf.folder / name).write_bytes(b"wheel")
    (shelf.folder / "link-1-py3-none-any.whl").symlink_to("/etc/hostname")
    (shelf.folder.parent / "secret-1-py3-none-any.whl").write_bytes(b"secret")
    token = await opened.pool.token()
    offer = json.loads((await opened.get("/offer.json", token))[1])
    digest = hashlib.sha256(b"wheel").hexdigest()
    assert offer["packages"] == [{"name": name, "size_bytes": 5, "sha256": digest}]
    assert await opened.get(f"/files/{name}", token) == (200, b"wheel")
    for path in (
        "/files/link-1-py3-none-any.whl",
        "/files/..%2Fsecret-1-py3-none-any.whl",
        "/files/%2e%2e/secret-1-py3-none-any.whl",
        "/files/../router.sqlite",
        "/files/",
    ):
        assert (await opened.get(path, token))[0] == 404, path


async def test_the_certificate_is_replaced_while_it_serves(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """After half of its life a new connection sees a new one."""
    monkeypatch.setattr(door, "ROTATION_POLL_S", 0.02)
    async with _door(opened.pool, opened.clock) as port:
        where = ("127.0.0.1", port.port)
        first = await asyncio.to_thread(ssl.get_server_certificate, where)
        opened.clock.shift_s = 25 * 3600
        async with asyncio.timeout(60):
            while await asyncio.to_thread(ssl.get_server_certificate, where) == first:
                await asyncio.sleep(0.02)


async def test_a_plain_pool_has_no_install_port_and_a_taken_one_is_said(opened: Open, tmp_path: Path) -> None:
    """Nobody joins a plain pool from elsewhere."""
    async with head(tmp_path / "plain", tls=False) as plain:
        assert await open_door(plain.security, plain.security.config, opened.clock) is None
    config = opened.pool.security.config
    taken = msgspec.structs.replace(config, grpc=msgspec.structs.replace(config.grpc, install_port=opened.door.port))
    with pytest.raises(ConfigError, match="choose another with --install-port"):
        await open_door(opened.pool.security, taken, opened.clock)


@pytest.fixture
def filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the head fills in as it hands the installer out."""
    monkeypatch.setattr(bare_machine, "SERVER_NAME", SERVER_NAME)


@pytest.mark.usefixtures("filled_in")
async def test_the_installer_trusts_the_tokens_ca_alone(opened: Open, tmp_path: Path) -> None:
    """Another pool's token, a damaged one: nothing was sent, in one line. The right one: over verified TLS."""
    token = await opened.pool.token()
    async with head(tmp_path / "other") as other:
        foreign = await other.token()
    for text, said in ((foreign, "another CA"), ("rubbish", "not a join token")):
        with pytest.raises(bare_machine.CannotInstall, match=said):
            await asyncio.to_thread(bare_machine.Door, opened.address, text)
    right = await asyncio.to_thread(bare_machine.Door, opened.address, token)
    assert json.loads(await asyncio.to_thread(right.get, "/offer.json"))["wheel"] == own_wheel().name


@pytest.mark.usefixtures("filled_in")
async def test_a_wheel_of_another_hash_is_refused(opened: Open, tmp_path: Path) -> None:
    """By the installer's own promise, before anything is installed."""
    right = await asyncio.to_thread(bare_machine.Door, opened.address, await opened.pool.token())
    wheel = own_wheel()
    with pytest.raises(bare_machine.CannotInstall, match="Nothing was installed"):
        await asyncio.to_thread(bare_machine.fetch, right, tmp_path, wheel.name, "0" * 64)
    assert list(tmp_path.glob("*.whl")) == []
    path = await asyncio.to_thread(bare_machine.fetch, right, tmp_path, wheel.name, wheel.sha256)
    assert path.read_bytes() == wheel.data


async def test_a_build_is_offered_under_its_key_to_machines_that_ask_over_the_pools_tls(
    opened: Open, tmp_path: Path
) -> None:
    """As the worker's own client sees it: by token and by certificate, hash checked, nothing kept of a changed file."""
    source = tmp_path / "llama-abc"
    source.mkdir()
    key, name = "ab" * 16, "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    (source / name).write_bytes(b"compiled")
    (source / "build.json").write_text(json.dumps({"key": key, "about": "llama.cpp for this processor"}))
    folder = shelf_folder(opened.pool.security.config.state_dir)
    assert Builds(folder).add(source) == "llama.cpp for this processor"
    (folder / "builds" / "not-a-key").mkdir()
    authority = opened.pool.security.authority
    assert authority is not None
    token = await opened.pool.token()
    mine = await join(opened.pool, token, tmp_path / "mac")
    for credentials in (
        Credentials(authority_pem=authority.certificate_pem, token=token),
        Credentials(authority_pem=authority.certificate_pem, certificate=mine.files.certificate, key=mine.files.key),
    ):
        with DoorClient("127.0.0.1", opened.door.port, credentials) as client:
            (build,) = (await asyncio.to_thread(client.offer)).builds
            assert (build.key, build.name, build.about) == (key, name, "llama.cpp for this processor")
            path = f"builds/{key}/{name}"
            got = await asyncio.to_thread(client.fetch, path, build.sha256, tmp_path)
            assert got.read_bytes() == b"compiled"
            with pytest.raises(NotOffered, match="another hash"):
                await asyncio.to_thread(client.fetch, path, "0" * 64, tmp_path)
            assert not got.exists()
            for wrong in (f"builds/{key}/build.json", f"builds/../{name}", f"builds/{key[:-2]}00/{name}"):
                with pytest.raises(NotOffered):
                    await asyncio.to_thread(client.fetch, wrong, build.sha256, tmp_path)
    stranger = Credentials(authority_pem=authority.certificate_pem, token=token[:-4] + "zzzz")
    with DoorClient("127.0.0.1", opened.door.port, stranger) as client, pytest.raises(NotOffered, match="not known"):
        await asyncio.to_thread(client.offer)
    assert Builds(folder).remove(key)
    assert not Builds(folder).remove(key)
    assert not Builds(folder).remove("../..")


async def test_the_certificate_at_the_enrolment_port_tells_the_install_port(opened: Open) -> None:
    """So a machine that joined learns where its next version is, whatever port that is."""
    assert opened.pool.listening.identity is not None
    opened.pool.listening.identity.tell_install_port(opened.door.port)
    shown = await fetch("127.0.0.1", opened.pool.listening.enrol_port)
    assert (shown.install_port, shown.enrol_port) == (opened.door.port, opened.pool.listening.enrol_port)


async def test_connections_are_bounded_in_number_and_none_may_be_silent(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many is hung up on; those that ask nothing are ended, and then others get in again."""
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(door, "SILENT_S", 0.5)
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    async with _door(opened.pool, opened.clock) as port, asyncio.timeout(60):
        silent = [await asyncio.open_connection("127.0.0.1", port.port, ssl=anyone) for _ in range(2)]
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await _first_byte(port.port, anyone)
        for reader, writer in silent:
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            writer.close()
        opened.door = port
        assert (await opened.get("/ca.pem"))[0] == 200


async def _first_byte(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return await reader.readexactly(1)
    finally:
        writer.close()
