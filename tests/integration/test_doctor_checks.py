"""The doctor names the cause of a failed join and the hint: one scene per cause, against a real head."""

import errno
import io
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from router.dist.door import open_door
from router.dist.own_wheel import own_wheel
from tests.support.tls_pool import Head, ShiftedClock, head
from workers.doctor import checks as doctor_checks
from workers.doctor.checks import check_clock, check_reach, connection_checks, local_checks
from workers.doctor.finding import Finding
from workers.doctor.install_checks import check_build
from workers.doctor.report import diagnose
from workers.installing.llama_plan import plan
from workers.installing.toolbox import Toolbox
from workers.joining.join import join_fleet
from workers.joining.pinning import NotTheRouter, Shown, fetch

PROFILE = Profile(node="mac", hardware=Hardware(kind="apple", name="Apple M4"), engine="echo")


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


async def findings(address: str, token: str = "", **more: object) -> dict[str, Finding]:
    return {one.check: one async for one in connection_checks(address, token, **more)}  # type: ignore[arg-type]


async def test_all_is_well_and_the_token_is_not_used_up(pool: Head, tmp_path: Path) -> None:
    """Looking changes nothing: the token still lets a machine in afterwards."""
    token = await pool.token()
    for _ in range(2):
        found = await findings(pool.enrol_address, token, state_dir=tmp_path)
        assert set(found) >= {"token", "address", "clock", "certificate", "session"}
        assert all(one.ok for one in found.values()), found
    joined = await join_fleet(pool.enrol_address, parse_token(token), PROFILE, tmp_path / "mac")
    found = await findings(pool.enrol_address, node="mac", state_dir=tmp_path / "mac")
    assert found["membership"].detail == f"known as {joined.membership.worker_id}, node mac"


async def test_what_the_head_hands_out_is_looked_at_too(tmp_path: Path) -> None:
    """With the token before the join and by the certificate after it; a port that is closed again is named."""
    clock = ShiftedClock()
    async with head(tmp_path / "head", clock=clock) as pool:
        door = await open_door(pool.security, pool.security.config, clock)
        assert door is not None
        assert pool.listening.identity is not None
        try:
            pool.listening.identity.tell_install_port(door.port)
            token = await pool.token()
            found = (await findings(pool.enrol_address, token, state_dir=tmp_path))["install"]
            assert (found.ok, own_wheel().sha256[:16] in found.detail) == (True, True), found
            await join_fleet(pool.enrol_address, parse_token(token), PROFILE, tmp_path / "mac")
            found = (await findings(pool.enrol_address, node="mac", state_dir=tmp_path / "mac"))["install"]
            assert (found.ok, own_wheel().name in found.detail) == (True, True), found
        finally:
            await door.close()
        found = (await findings(pool.enrol_address, node="mac", state_dir=tmp_path / "mac"))["install"]
        assert (found.ok, f"allow TCP port {door.port}" in found.hint) == (False, True), found


def test_what_is_missing_to_build_is_named_with_its_commands() -> None:
    """And what would be built, where nothing is."""
    box = Toolbox(system="linux", machine="x86_64", programs={"apt-get": "/a"})
    found = check_build(plan(Hardware(kind="nvidia", name="RTX 4090"), box))
    assert (found.ok, found.hint) == (False, "sudo apt-get install g++; sudo apt-get install nvidia-cuda-toolkit")
    assert "a C++ compiler, the CUDA toolkit (nvcc) is missing" in found.detail
    found = check_build(plan(Hardware(kind="cpu", name="EPYC"), replace(box, programs={"c++": "/c", "cmake": "/d"})))
    assert (found.ok, "llama.cpp for the processor (EPYC)" in found.detail) == (True, True)


async def test_an_expired_token_is_named(tmp_path: Path) -> None:
    """With the command that makes a new one."""
    clock = ShiftedClock()
    async with head(tmp_path / "head", clock=clock) as pool:
        token = await pool.token(ttl_s=10)
        clock.shift_s = 11
        found = (await findings(pool.enrol_address, token))["token"]
        assert not found.ok
        assert "expired" in found.detail
        assert "token create" in found.hint


async def test_a_used_token_is_named(pool: Head, tmp_path: Path) -> None:
    """Used by another machine."""
    token = await pool.token()
    await join_fleet(pool.enrol_address, parse_token(token), PROFILE, tmp_path / "mac")
    found = (await findings(pool.enrol_address, token))["token"]
    assert not found.ok
    assert "used already" in found.detail


async def test_a_machine_that_joined_under_a_name_of_its_own_is_known_without_it(pool: Head, tmp_path: Path) -> None:
    """With ``--node`` and without; and its own used token is no fault, as its key is enough."""
    token = await pool.token()
    joined = await join_fleet(pool.enrol_address, parse_token(token), PROFILE, tmp_path)
    for node in ("", "mac"):
        for given in ("", token):
            found = await findings(pool.enrol_address, given, node=node, state_dir=tmp_path)
            assert all(one.ok for one in found.values()), found
            assert joined.membership.worker_id in found["membership"].detail
            assert found["session"].ok
            assert not given or "not needed any more" in found["token"].detail
    stranger = await findings(pool.enrol_address, token, node="other", state_dir=tmp_path)
    assert "used already" in stranger["token"].detail


async def test_the_session_port_is_told_from_the_enrolment_port_and_the_right_one_named(
    pool: Head, tmp_path: Path
) -> None:
    """To the doctor and to the join, with a token or without; the token is not used up by it."""
    token = await pool.token()
    for given in (token, ""):
        found = await findings(pool.session_address, given, state_dir=tmp_path)
        assert "is the router's session port" in found["port"].detail
        assert found["port"].hint == f"use {pool.enrol_address}"
        parsed = parse_token(given) if given else None
        with pytest.raises(NotTheRouter, match=f"session port.*join at {pool.enrol_address}"):
            await join_fleet(pool.session_address, parsed, PROFILE, tmp_path / "mac")
    assert await join_fleet(pool.enrol_address, parse_token(token), PROFILE, tmp_path / "mac")


async def test_a_damaged_and_a_foreign_token_are_named(pool: Head, tmp_path: Path) -> None:
    """The one is not read at all, the other is of another CA."""
    assert not (await findings(pool.enrol_address, "as1.rubbish"))["token"].ok
    async with head(tmp_path / "other") as other:
        foreign = await other.token()
    found = (await findings(pool.enrol_address, foreign))["certificate"]
    assert not found.ok
    assert "another CA" in found.detail


async def test_a_revoked_machine_is_told(pool: Head, tmp_path: Path) -> None:
    """By the key it still holds."""
    joined = await join_fleet(pool.enrol_address, parse_token(await pool.token()), PROFILE, tmp_path)
    await pool.security.store.revoke(joined.membership.worker_id, "mac", "sold", 0.0)
    found = (await findings(pool.enrol_address, node="mac", state_dir=tmp_path))["membership"]
    assert "revoked: sold" in found.detail
    assert "`allsorts leave`" in found.hint


async def test_a_closed_port_and_an_unknown_name_are_told_apart() -> None:
    """Refused: the router does not run there. Unknown: spelling."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        found = (await findings(f"127.0.0.1:{held.getsockname()[1]}"))["address"]
    assert "nothing listens" in found.hint
    found = (await findings("no-such-host.invalid:8099"))["address"]
    assert "does not resolve" in found.detail


async def test_a_silent_address_points_to_firewall_and_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that vanish look like this."""

    async def never(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(doctor_checks.asyncio, "open_connection", never)
    found = await check_reach("192.0.2.7", 8099)
    assert "firewall" in found.hint
    assert "8099" in found.hint


@pytest.mark.parametrize(
    ("ip", "platform", "word"), [("192.168.1.5", "darwin", "Local Network"), ("192.168.1.5", "linux", "no route")]
)
async def test_no_route_on_a_mac_means_the_local_network_permission(
    monkeypatch: pytest.MonkeyPatch, ip: str, platform: str, word: str
) -> None:
    """macOS answers EHOSTUNREACH when the program may not reach the local network."""

    async def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(doctor_checks.asyncio, "open_connection", unreachable)
    assert word in (await check_reach(ip, 8099, platform=platform)).hint


async def test_clock_skew_is_told_with_its_direction(pool: Head) -> None:
    """Measured against the validity of the router's fresh certificate."""
    shown = await fetch("127.0.0.1", pool.listening.enrol_port)
    assert check_clock(shown, shown.valid_from_unix_s + 600).ok
    behind = check_clock(shown, shown.valid_from_unix_s - 3600)
    assert "60 min behind" in behind.detail
    ahead = check_clock(shown, shown.valid_until_unix_s + 7200)
    assert "120 min ahead" in ahead.detail
    assert "network time" in ahead.hint
    assert isinstance(shown, Shown)


async def test_a_session_address_on_another_interface_is_told(pool: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head advertises an address this machine does not reach."""
    pool.service.replicas = [type(pool.listening.replica)(replica_id="r", address="192.0.2.9:8100")]
    reach = doctor_checks.check_reach

    async def only_loopback(host: str, port: int, **more: object) -> Finding:
        if host == "192.0.2.9":
            return Finding(check="address", ok=False, detail="192.0.2.9:8100 does not answer", hint="firewall")
        return await reach(host, port)

    monkeypatch.setattr(doctor_checks, "check_reach", only_loopback)
    found = (await findings(pool.enrol_address, await pool.token()))["session"]
    assert "wrong interface" in found.hint
    assert 'advertised_host = "127.0.0.1"' in found.hint


async def test_a_port_that_is_no_router_is_told() -> None:
    """For example the HTTP port, or something else altogether."""
    from tests.support.plain_openai import plain_openai

    with plain_openai() as url:
        address = url.removeprefix("http://").removesuffix("/v1")
        found = (await findings(address, "as1." + "A" * 43 + ".x.y"))["certificate"]
    assert not found.ok
    assert "token create" in found.hint


async def test_a_version_too_old_is_told(pool: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """The router's refusal comes with what to install."""
    monkeypatch.setattr("workers.session.enrolment.PROTOCOL_VERSION", 0)
    found = (await findings(pool.enrol_address, await pool.token()))["token"]
    assert "protocol 0" in found.detail
    assert "pip install" in found.hint


async def test_engine_and_memory_are_checked_on_this_machine(tmp_path: Path) -> None:
    """A missing engine and a file too large for the memory that can be taken."""
    model = tmp_path / "m.gguf"
    model.write_bytes(b"x" * 4096)
    small = Hardware(kind="cpu", name="x", usable_memory_bytes=2**20)
    found = {one.check: one async for one in local_checks(engine="steam", model=model, hardware=small)}
    assert "no engine 'steam'" in found["engine"].detail
    assert not found["memory"].ok
    assert "smaller quantization" in found["memory"].hint
    large = replace(small, usable_memory_bytes=2**40)
    found = {one.check: one async for one in local_checks(engine="openai", model=model, hardware=large)}
    assert found["memory"].ok
    assert found["engine"].ok
    missing = {one.check: one async for one in local_checks(engine="openai", model=tmp_path / "none", hardware=large)}
    assert "no such file" in missing["memory"].detail


async def test_the_report_shows_the_hint_below_what_failed(pool: Head, tmp_path: Path) -> None:
    """Exit status 1 when something is to be mended."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    token = await pool.token()
    assert await diagnose(pool.enrol_address, token, engine="openai", state_dir=tmp_path, console=console) == 0
    assert "everything is in order" in out.getvalue()
    assert await diagnose(pool.enrol_address, engine="openai", state_dir=tmp_path, console=console) == 1
    assert "→ run `allsorts token create`" in out.getvalue()
    assert token not in out.getvalue()
