"""``allsorts upgrade``: the head's version over the pool's TLS, streams first, and the one before when it fails.

Real: head, install port, hashes, links, processes. Played: what pip makes, an environment that runs this checkout.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest
import typer

from router.dist.own_wheel import own_wheel
from router.domain.worker import WorkerState
from tests.integration.test_install_port import Open, opened
from tests.support.join_process import LEAVE, ask, joining, ready
from tests.support.plain_openai import ANSWER, plain_openai
from workers.cli import upgrade as command
from workers.installing import own_version
from workers.joining.staying.restart import restart

__all__ = ["opened"]

OLD = "0" * 16
MAIN = "from router.cli.main import main\nmain()\n"


def environment_of(folder: Path, script: str = MAIN) -> None:
    """As pip leaves it, for what runs here: another environment with the same packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{Path.cwd()}\n")
    (folder / "bin" / "allsorts").write_text(f"#!{folder}/bin/python\n{script}")
    (folder / "bin" / "allsorts").chmod(0o700)


@dataclass
class Machine:
    """One that the pasted line installed on; ``home`` is its place of its own."""

    home: Path
    environment: dict[str, str]

    @property
    def old(self) -> Path:
        return self.home / "versions" / OLD

    @property
    def new(self) -> Path:
        return self.home / "versions" / own_wheel().sha256[:16]

    @property
    def program(self) -> tuple[str, ...]:
        return (str(self.home / "bin" / "allsorts"), "join")

    @property
    def in_use(self) -> Path | None:
        return own_version.OwnVersions(self.home).in_use


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    home = tmp_path / "own"
    environment = {"HOME": str(tmp_path), "ALLSORTS_HOME": str(home)}
    environment |= dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), "")
    one = Machine(home, environment)
    environment_of(one.old / "env")
    own_version.OwnVersions(home).use(one.old)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "prefix", str(one.old / "env"))
    monkeypatch.setattr(command, "install_engines", lambda *_: None)
    monkeypatch.setattr(own_version, "make_environment", lambda folder, _: environment_of(folder))
    return one


@pytest.fixture
def upstream() -> Iterator[str]:
    with plain_openai() as url:
        yield url


@pytest.fixture
async def joined(opened: Open, machine: Machine, upstream: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of the old version."""
    opened.pool.listening.identity.tell_install_port(opened.door.port)
    line = (opened.pool.enrol_address, "--token", await opened.pool.token(), "--node", "mac", "--no-benchmark")
    more = ("--engine", "openai", "--base-url", upstream)
    async with joining(*line, *more, environment=machine.environment, program=machine.program) as process:
        await ready(opened.pool, process)
        yield process


async def upgraded(*, check: bool = False) -> int:
    """Its exit status."""
    try:
        await asyncio.to_thread(command.upgrade, check=check)
    except typer.Exit as end:
        return int(end.exit_code)
    return 0


async def test_a_worker_becomes_the_heads_version_in_place(
    opened: Open, machine: Machine, joined: asyncio.subprocess.Process, capfd: pytest.CaptureFixture[str]
) -> None:
    """It drains first, says goodbye, and is back as the same worker in the same process; a second time it is level."""
    pool = opened.pool
    seen: list[WorkerState] = []
    (view,) = pool.membership.snapshot().workers
    pool.membership.on_change(lambda one: seen.append(pool.membership.member(one).state))  # type: ignore[union-attr]
    assert await upgraded(check=True) == 0
    assert f"another version than the head at {pool.enrol_address}: {own_wheel().name}" in capfd.readouterr().err
    assert machine.in_use == machine.old
    assert await upgraded() == 0, capfd.readouterr().err
    said = capfd.readouterr().err
    for line in (
        f"fetched {own_wheel().name}",
        f"installed in {machine.new}",
        "moves the rest and starts anew",
        "back",
    ):
        assert line in said, said
    member = await ready(pool, joined)
    assert member.worker_id == view.worker_id
    assert await ask(pool, member) == ANSWER
    order = [one for one, _ in itertools.groupby(seen)]
    assert order[:3] == [WorkerState.READY, WorkerState.DRAINING, WorkerState.GONE]
    assert order[-1] == WorkerState.READY
    assert psutil.Process(joined.pid).cmdline()[0].startswith(str(machine.new))
    assert machine.in_use == machine.new
    sys.prefix = str(machine.new / "env")  # the machine's fixture puts it back
    assert await upgraded() == 0
    assert "level with the head" in capfd.readouterr().err
    joined.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(joined.wait(), 60) == 0


async def test_a_version_that_does_not_come_back_leaves_the_one_before_in_use(
    machine: Machine,
    joined: asyncio.subprocess.Process,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said in one line, with the place of what is in use again."""
    broken = "import sys\nsys.exit('broken')\n"
    monkeypatch.setattr(own_version, "make_environment", lambda folder, _: environment_of(folder, broken))
    monkeypatch.setattr(command, "restart", partial(restart, back_within_s=3.0))
    assert await upgraded() == 1
    said = capfd.readouterr().err
    assert "allsorts upgrade: " in said
    assert "it has not come back within 3 s" in said
    assert machine.in_use == machine.old
    assert await asyncio.wait_for(joined.wait(), 60) == 1


async def test_what_is_not_as_promised_is_not_installed(
    opened: Open,
    machine: Machine,
    joined: asyncio.subprocess.Process,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wheel of another hash, an environment that cannot be made, a revoked machine: what serves serves on."""

    async def refused(why: str) -> None:
        assert await upgraded() == 1
        assert why in capfd.readouterr().err
        assert machine.in_use == machine.old
        assert [one.name for one in (machine.home / "versions").iterdir()] == [OLD]

    def fails(*_: object) -> None:
        raise own_version.CannotInstall("pip failed: no wheel for this machine")

    with monkeypatch.context() as patched:
        patched.setattr(own_version, "make_environment", fails)
        await refused("no wheel for this machine")
    with monkeypatch.context() as patched:
        honest = command.DoorClient.fetch
        patched.setattr(command.DoorClient, "fetch", lambda one, path, sha256, into: honest(one, path, "f" * 64, into))
        await refused("another hash than promised")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "prefix", "/usr")
        await refused("which the head's line did not make")
    lock = own_version.OwnVersions(machine.home).alone()
    with lock:
        await refused("something else is being installed")
    assert joined.returncode is None
    (view,) = opened.pool.membership.snapshot().workers
    await opened.pool.security.intent.revoke(view.worker_id, "mac", "sold")
    await refused("revoked")  # its worker is cut off, too, and may end before or after


async def test_leave_takes_the_program_away_where_the_head_s_line_put_it(
    machine: Machine, joined: asyncio.subprocess.Process
) -> None:
    """All versions and the command; with --keep-keys it stays, with the keys."""
    python = str(machine.old / "env/bin/python")
    environment = {**os.environ, **machine.environment}
    for options, stays in (("--keep-keys",), True), ((), False):
        async with joining(*options, environment=environment, program=(python, *LEAVE[1:])) as process:
            out, err = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, err.decode()
        assert (f"removed: this program, in {machine.home}" in out.decode()) is not stays, out.decode()
        assert machine.home.exists() is stays
    assert await asyncio.wait_for(joined.wait(), 60) == 0
