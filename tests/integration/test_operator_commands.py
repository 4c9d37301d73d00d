"""The operator's commands: tokens and keys on the store directly, and what they say when something is wrong."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from router.cli import key as key_cli
from router.cli import token as token_cli
from router.cli.support.durations import parse_duration, parse_pairs
from router.errors import ConfigError
from router.state.location import open_store
from tests.support.tls_pool import head
from workers.joining.join import join_fleet

PROFILE = Profile(node="mac", hardware=Hardware(kind="apple", name="Apple M4"), engine="echo")


async def allsorts(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.cli.main", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode, out.decode(), err.decode()


async def test_a_token_made_on_the_store_lets_a_machine_into_the_running_router(tmp_path: Path) -> None:
    """The command needs no running router, and knows the address the router last listened on."""
    async with head(tmp_path / "head") as pool:
        arguments = ("token", "create", "--ttl", "5m", "--labels", "site=lab", "--state-dir", str(tmp_path / "head"))
        code, out, err = await allsorts(*arguments)
        assert code == 0, err
        words = out.split()
        assert words[:4] == ["allsorts", "join", pool.enrol_address, "--token"]
        assert len(out.strip().splitlines()) == 1  # stdout is the line and nothing else
        joined = await join_fleet(words[2], parse_token(words[4]), PROFILE, tmp_path / "mac")
        record = await pool.security.store.worker(joined.membership.worker_id)
        assert record is not None
        assert record.labels == {"site": "lab"}


async def test_a_token_without_any_address_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """A line that nobody could paste is not printed."""
    code, out, err = await allsorts("token", "create", "--state-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert "--grpc-host" in err
    code, out, _ = await allsorts("token", "create", "--state-dir", str(tmp_path), "--address", "head:8099")
    assert code == 0
    assert out.startswith("allsorts join head:8099 --token as1.")


def test_keys_are_made_shown_once_listed_and_deleted(tmp_path: Path) -> None:
    """The secret is on stdout alone, so that it can be piped; the list never shows it."""
    run = CliRunner()
    where = ["--state-dir", str(tmp_path)]
    made = run.invoke(key_cli.app, ["create", "--name", "me", "--scopes", "serve,admin", "--ttl", "30d", *where])
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("sk-as-")
    listed = run.invoke(key_cli.app, ["list", *where])
    assert "me" in listed.stdout
    assert secret not in listed.output
    (record,) = asyncio.run(_keys(tmp_path))
    assert record.expires_at is not None
    assert run.invoke(key_cli.app, ["delete", record.key_id, *where]).exit_code == 0
    assert asyncio.run(_keys(tmp_path)) == []
    assert isinstance(run.invoke(key_cli.app, ["delete", "key-x", *where]).exception, Exception)
    assert run.invoke(token_cli.app, ["create", "--ttl", "soon", *where]).exit_code == 1


def test_the_list_of_keys_shows_their_rules_and_whole_ids_in_a_narrow_terminal(tmp_path: Path) -> None:
    """``key delete`` needs the id; expiry, priority and targets are what people look for."""
    run = CliRunner()
    where = ["--state-dir", str(tmp_path)]
    rules = ["--ttl", "30d", "--priority", "7", "--ttft", "1.5", "--tpot", "0.05", "--quality-floor", "q6_k"]
    assert run.invoke(key_cli.app, ["create", "--name", "someone-with-a-long-name", *rules, *where]).exit_code == 0
    (record,) = asyncio.run(_keys(tmp_path))
    text = run.invoke(key_cli.app, ["list", *where], env={"COLUMNS": "80"}).stdout
    assert record.expires_at is not None
    day = time.strftime("%Y-%m-%d", time.localtime(record.expires_at))
    for shown in (record.key_id, "someone-with-a-long-name", day, " 7\n", "ttft 1.5 s, tpot 0.05 s", "floor q6_k"):
        assert shown in text


async def _keys(folder: Path) -> list:  # type: ignore[type-arg]
    store = open_store(str(folder))
    try:
        return await store.keys()
    finally:
        await store.close()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("1.5h", 5400)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    """s, m, h, d; seconds without a unit."""
    assert parse_duration(text, "--ttl") == seconds


@pytest.mark.parametrize("text", ["", "x", "-1h", "0", "1y", "nan", "inf", "h"])
def test_other_durations_are_refused(text: str) -> None:
    """Naming the flag."""
    with pytest.raises(ConfigError, match="--ttl"):
        parse_duration(text, "--ttl")


@pytest.mark.parametrize("text", ["0s", "-1h", "0"])
def test_a_duration_of_nothing_is_told_from_no_duration(text: str) -> None:
    """It has its unit already; it must be above zero."""
    with pytest.raises(ConfigError, match=f"--ttl '{text}': must be above zero"):
        parse_duration(text, "--ttl")


def test_labels_are_pairs() -> None:
    """Several in one, or several times."""
    assert parse_pairs(["a=1,b=2", "c=3=4"], "--labels") == {"a": "1", "b": "2", "c": "3=4"}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_pairs(["a"], "--labels")


@pytest.mark.parametrize("tls", [False, True])
async def test_every_socket_of_the_grpc_listeners_is_on_loopback_when_told_so(tmp_path: Path, tls: bool) -> None:
    """Nothing of them is reachable from another machine by default."""
    before = _listening()
    async with head(tmp_path, tls=tls) as pool:
        opened = _listening() - before
        assert {ip for ip, _ in opened} == {"127.0.0.1"}
        ports = {pool.listening.session_port} | ({pool.listening.enrol_port} if tls else set())
        assert {port for _, port in opened} == ports
    assert _listening() == before


async def test_plain_text_is_never_served_beyond_loopback(tmp_path: Path) -> None:
    """Asked for plain text on every interface, the head still takes TLS."""
    async with head(tmp_path, tls=False, host="0.0.0.0") as pool:
        assert pool.security.authority is not None
        assert pool.listening.enrol_port
        line = (await pool.security.credentials.create_token(ttl_s=60, uses=1, labels={}))["line"]
        assert "0.0.0.0" not in line


def _listening() -> set[tuple[str, int]]:
    connections = psutil.Process().net_connections(kind="tcp")
    found = {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    return {(ip.removeprefix("::ffff:"), port) for ip, port in found}  # gRPC binds IPv4 as mapped IPv6
