"""``allsorts join`` as its user runs it: a process, the printed line, and what it says at every step."""

import asyncio
import os
import plistlib
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.domain.worker import WorkerState
from tests.support.join_process import LEAVE, PAUSE, RESUME, ask, joining, ready, run_to_end
from tests.support.plain_openai import ANSWER, plain_openai
from tests.support.tls_pool import Head, head
from tests.support.until import until_async
from workers.joining.staying import service_units


@pytest.fixture
def upstream() -> Iterator[str]:
    with plain_openai() as url:
        yield url


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and service managers that write down what they are told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "launchctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/told\n')
        (programs / name).chmod(0o700)
    path = f"{programs}:{os.environ['PATH']}"
    return {"HOME": str(tmp_path), "PATH": path, "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": "", "XDG_CACHE_HOME": ""}


async def test_the_printed_line_joins_serves_answers_and_comes_back_without_its_token(
    pool: Head, upstream: str, tmp_path: Path
) -> None:
    """Every step says something; a second start needs the key alone and is the same worker."""
    made = await pool.security.credentials.create_token(ttl_s=60, uses=1, labels={})
    line = made["line"].split()
    assert line[:2] == ["allsorts", "join"]
    more = ("--engine", "openai", "--base-url", upstream, "--node", "mac", "--state-dir", str(tmp_path / "mac"))
    async with joining(*line[2:], *more, "--no-benchmark") as process:
        member = await ready(pool, process)
        assert await ask(pool, member) == ANSWER
        code, second = await run_to_end(line[2], *more, "--no-benchmark")
        assert (code, "another process serves here" in second) == (1, True), second
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
    said = err.decode()
    for step in ("this machine:", "engine: openai", "the router at", "let in as mac-", "is serving"):
        assert step in said, said
    assert made["token"] not in said
    async with joining(line[2], *more, "--no-benchmark") as process:
        assert (await ready(pool, process)).worker_id == member.worker_id
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)


async def test_what_is_wrong_is_one_line_that_points_to_the_doctor(pool: Head, upstream: str, tmp_path: Path) -> None:
    """Damaged token, wrong pool, no address: status 1, no traceback."""
    token = await pool.token()
    more = ("--engine", "openai", "--base-url", upstream, "--state-dir", str(tmp_path / "mac"))
    cases = [
        ((pool.enrol_address, "--token", "rubbish"), "not a join token"),
        ((pool.enrol_address, "--token", token[:-4] + "xxxx"), "the token is not known here"),
        ((pool.enrol_address, "--token", "as1." + "A" * 43 + ".x.y"), "another CA"),
        (("127.0.0.1:1", "--token", token), "cannot be reached"),
        (("nowhere", "--token", token), "write HOST:PORT"),
        ((pool.enrol_address,), "has not joined"),
    ]
    for arguments, line in cases:
        code, err = await run_to_end(*arguments, *more)
        assert code == 1, err
        assert "Traceback" not in err
        said = [one for one in err.splitlines() if one.startswith("allsorts join: ")]
        assert len(said) == 1, err
        assert line in said[0]
        assert f"(more: allsorts doctor {arguments[0]} --state-dir {tmp_path / 'mac'}" in said[0]


async def test_what_can_be_known_beforehand_costs_no_token(
    pool: Head, tmp_path: Path, model_files: dict[str, Path]
) -> None:
    """A file that is not there or is no model, a server that does not answer: one line, and nobody was let in."""
    token = await pool.token()
    rubbish = tmp_path / "rubbish.gguf"
    rubbish.write_bytes(b"no model")
    line = (pool.enrol_address, "--token", token, "--state-dir", str(tmp_path / "mac"))
    for more, said in (
        (("--model", "x=/nope.gguf"), "/nope.gguf: no such file"),
        (("--model", f"x={rubbish}"), "rubbish.gguf: not a GGUF"),
        (("--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"), "no server answers"),
        (("--engine", "openai"), "needs --base-url"),
        (("--model", f"m={model_files['q8_0']}", "--auto-upgrade"), "that the head's line installed"),
    ):
        code, err = await run_to_end(*line, *more)
        assert code == 1
        assert said in err.splitlines()[-1], err
    assert await pool.audit("join.admitted") == []


async def test_a_first_load_that_fails_ends_the_join_and_leaves_the_pool(pool: Head, tmp_path: Path) -> None:
    """A failed row of a machine that serves nothing helps nobody: one line, status 1."""
    with plain_openai(model="me@home") as url:
        line = (pool.enrol_address, "--token", await pool.token(), "--state-dir", str(tmp_path / "mac"))
        code, err = await run_to_end(*line, "--engine", "openai", "--base-url", url)
    assert code == 1
    assert err.splitlines()[-1].startswith("allsorts join: nothing could be loaded: no client can ask for 'me@home'")
    (worker,) = pool.membership.snapshot().workers
    assert worker.state is WorkerState.GONE


async def test_leave_stops_the_join_that_serves_and_removes_its_keys_only_then(
    pool: Head, upstream: str, tmp_path: Path, home: dict[str, str]
) -> None:
    """A join in the foreground is asked to leave and says goodbye; without one there is nothing to stop."""
    state = ("--state-dir", str(tmp_path / "mac"))
    line = (pool.enrol_address, "--token", await pool.token(), "--engine", "openai", "--base-url", upstream)
    async with joining(*line, *state, "--node", "mac", "--no-benchmark") as process:
        member = await ready(pool, process)
        async with joining(*state, environment=home, program=LEAVE) as leaving:
            out, err = await asyncio.wait_for(leaving.communicate(), 60)
        assert leaving.returncode == 0, err
        assert f"process {process.pid} finishes what runs and leaves" in out.decode()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    await pool.until(member.worker_id, WorkerState.GONE)
    assert not (tmp_path / "mac").exists()
    async with joining(*state, environment=home, program=LEAVE) as leaving:
        out, _ = await asyncio.wait_for(leaving.communicate(), 60)
    assert (leaving.returncode, b"nothing serves here now" in out) == (0, True)


async def said_by(program: tuple[str, ...], *arguments: str, environment: dict[str, str]) -> tuple[int | None, str]:
    async with joining(*arguments, environment=environment, program=program) as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, (out + err).decode()


async def test_an_owner_pauses_and_resumes_the_join_that_serves(
    pool: Head, upstream: str, tmp_path: Path, home: dict[str, str]
) -> None:
    """The head sees it drained, also when it starts anew, and ready after the resume; ``leave`` ends a pause."""
    base = tmp_path / "mac"
    state = ("--state-dir", str(base))
    more = (*state, "--engine", "openai", "--base-url", upstream, "--node", "mac", "--no-benchmark")
    async with joining(pool.enrol_address, "--token", await pool.token(), *more) as process:
        member = await ready(pool, process)
        code, told = await said_by(PAUSE, *state, environment=home)
        assert (code, "-mac: takes nothing new" in told) == (0, True), told
        await pool.until(member.worker_id, WorkerState.DRAINING)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
    await pool.until(member.worker_id, WorkerState.GONE)
    async with joining(pool.enrol_address, *more) as process:
        await pool.until(member.worker_id, WorkerState.DRAINING)
        code, told = await said_by(RESUME, *state, environment=home)
        assert (code, "-mac: takes work again" in told) == (0, True), told
        again = await ready(pool, process)
        assert await ask(pool, again) == ANSWER
        assert await said_by(RESUME, *state, environment=home) == (0, "nothing was paused\n")
        await said_by(PAUSE, *state, environment=home)
        code, told = await said_by(LEAVE, *state, environment=home)
        assert (code, "the pause is over too" in told) == (0, True), told
    assert not (base / "paused").exists()


async def test_a_pause_that_cannot_be_written_is_one_clear_line(tmp_path: Path, home: dict[str, str]) -> None:
    """A state directory that is a file."""
    (tmp_path / "file").write_text("")
    for program in (PAUSE, RESUME):
        code, told = await said_by(program, "--state-dir", str(tmp_path / "file"), environment=home)
        assert (code, told.count("\n"), str(tmp_path / "file") in told) == (1, 1, True), told


async def test_an_own_model_is_served_and_compared_with_what_is_expected_of_it(
    pool: Head, tmp_path: Path, model_files: dict[str, Path]
) -> None:
    """Nobody in the pool has it: the router works out what this machine should do from the file's header."""
    line = (pool.enrol_address, "--token", await pool.token(), "--model", f"mine={model_files['q4_k_m']}")
    more = ("--node", "mac", "--state-dir", str(tmp_path / "mac"), "--quick-benchmark")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    async with joining(*line, *more, environment=environment) as process:
        member = await ready(pool, process)
        assert ("mine", "q4_k_m") in member.models
        process.send_signal(signal.SIGTERM)
        said = (await asyncio.wait_for(process.communicate(), 60))[1].decode()
    compared = re.search(r"tokens/s, one stream +([0-9.]+) +([0-9.]+) +([0-9.]+)", said)
    assert compared, said
    assert float(compared[1]) > 0


async def test_the_first_machine_of_a_pool_serves_the_best_of_its_files(
    pool: Head, tmp_path: Path, model_files: dict[str, Path]
) -> None:
    """Nobody asked for anything yet: the router's choice is by quality and fit, not by the alphabet."""
    folder = tmp_path / "models"
    folder.mkdir()
    for file in (model_files["q4_k_m"], model_files["q8_0"]):
        (folder / file.name).symlink_to(file)
    line = (pool.enrol_address, "--token", await pool.token(), "--models", str(folder), "--yes")
    async with joining(*line, "--state-dir", str(tmp_path / "mac"), "--no-benchmark") as process:
        member = await ready(pool, process)
        assert [quantization for _, quantization in member.models] == ["q8_0"]
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)


@pytest.mark.skipif(sys.platform != "linux", reason="systemd's unit; launchd's is checked below")
async def test_an_installed_join_comes_back_by_what_was_written_and_leaves(
    pool: Head, upstream: str, tmp_path: Path, home: dict[str, str]
) -> None:
    """The unit holds no token and its command alone brings the worker back, twice; ``leave`` takes it away, and
    unless the keys are to be kept the machine is a stranger again.
    """
    made = await pool.security.credentials.create_token(ttl_s=60, uses=1, labels={})
    line = made["line"].split()[2:]
    more = ("--engine", "openai", "--base-url", upstream, "--node", "mac", "--no-benchmark")
    async with joining(*line, *more, "--install", environment=home) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
    unit = tmp_path / ".config/systemd/user" / service_units.UNIT
    told = tmp_path / "told"
    assert told.read_text().splitlines()[-1] == f"systemctl --user enable --now {service_units.UNIT}"
    written = unit.read_text()
    assert made["token"] not in written
    (start,) = (one.removeprefix("ExecStart=") for one in written.splitlines() if one.startswith("ExecStart="))
    ids = set()
    for _ in range(2):
        async with joining(environment=home, program=tuple(shlex.split(start))) as process:
            member = await ready(pool, process)
            assert await ask(pool, member) == ANSWER
            ids.add(member.worker_id)
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
    assert len(ids) == 1
    for options, said in (
        (["--keep-keys"], b"removed what --install had written"),
        ([], b"removed: keys and certificates"),
    ):
        async with joining(*options, environment=home, program=LEAVE) as process:
            out, _ = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, said in out) == (0, True), out
    assert not unit.exists()
    assert told.read_text().splitlines()[-1] == f"systemctl --user disable --now {service_units.UNIT}"
    async with joining(environment=home, program=tuple(shlex.split(start))) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, b"has not joined" in err) == (1, True), err


def everything_in(folder: Path) -> dict[str, bytes]:
    """Every file with its content, every folder with none."""
    return {
        str(one.relative_to(folder)): one.read_bytes() if one.is_file() and not one.is_symlink() else b""
        for one in folder.rglob("*")
    }


async def test_after_leaving_the_file_system_is_as_before_but_for_what_the_owner_made(
    pool: Head, tmp_path: Path, home: dict[str, str], model_files: dict[str, Path]
) -> None:
    """Keys, names, logs, measurements, the unit, the lock of the machine and every folder made for them are gone; a
    model and a note of the owner's stay, and are named.
    """
    there = tmp_path / "there"
    models = there / ".local/share/allsorts/models"
    models.mkdir(parents=True)
    (models / "mine-q8_0.gguf").write_bytes(model_files["q8_0"].read_bytes())
    environment = {**home, "HOME": str(there), "ALLSORTS_MACHINE_DIR": str(there / "machine")}
    before = everything_in(there)
    line = (pool.enrol_address, "--token", await pool.token(), "--node", "mac", "--quick-benchmark")
    log = there / ".local/state/allsorts/logs/mac.log"
    async with joining(*line, "--log-file", str(log), environment=environment) as process:
        member = await ready(pool, process)
        assert ("mine", "q8_0") in member.models
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
    async with joining(*line[:1], *line[3:], "--install", environment=environment) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
    measured = there / ".cache/allsorts/benchmarks"
    measured.mkdir(exist_ok=True)  # what fits badly, as among much else that runs, is not kept
    (measured / "as-if-it-fitted.json").write_text("{}")
    made = sorted(set(everything_in(there)) - set(before))
    for name in ("key.pem", "made.json", "mac.log", "turn.lock", service_units.UNIT):
        assert any(one.endswith(name) for one in made), (name, made)
    code, told = await said_by(LEAVE, environment=environment)
    assert (code, f"left, because it is yours: {models}" in told) == (0, True), told
    assert everything_in(there) == before

    async with joining(*line, "--token", await pool.token(), environment=environment) as process:
        await ready(pool, process)
        note = there / ".local/state/allsorts/note.txt"
        note.write_text("the owner's")
        code, told = await said_by(LEAVE, environment=environment)
    assert (code, f"left, because it is yours: {note}" in told) == (0, True), told
    left = set(everything_in(there)) - set(before)
    assert left == {".local/state", ".local/state/allsorts", ".local/state/allsorts/note.txt"}


async def test_the_owner_hears_what_joining_will_do_before_it_does(
    pool: Head, tmp_path: Path, home: dict[str, str], model_files: dict[str, Path]
) -> None:
    """Memory by the model's header, cores, folders, no port, how it ends; only then the router is asked."""
    line = (pool.enrol_address, "--token", "as1." + "A" * 43 + ".x.y", "--model", f"mine={model_files['q8_0']}")
    async with joining(*line, "--node", "mac", "--install", environment=home) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
    said = err.decode()
    assert "allsorts join: " in said.splitlines()[-1], said
    plan = said[: said.index("allsorts join: ")]
    state, unit = tmp_path / ".local/state/allsorts", tmp_path / ".config/systemd/user" / service_units.UNIT
    for line_ in (
        f"asks    {pool.enrol_address} for a certificate, then keeps a connection to each router; opens no port",
        f"serves  mine from {model_files['q8_0']}",
        f"keeps   {state} (keys; logs: standard error)",
        "disk    64 MiB at most in both",
        f"starts  after every reboot, by {unit}",
        "ends    `allsorts pause` keeps it out for a while, `allsorts leave` takes all of this away",
    ):
        assert line_ in plan, said
    needed = re.search(r"memory  (\d\.\d) GiB of \d+\.\d GiB", plan)
    assert needed is not None, said
    assert 0.9 < float(needed[1]) < 1.2  # 138 MiB of weights, 8 x 4096 tokens of 23,040 bytes, 150 MiB beside
    assert re.search(r"cores   \d+ of \d+ while requests run; measures for about 20 seconds first, once", plan), said


def test_units_run_the_join_again_without_a_token(tmp_path: Path) -> None:
    """launchd and systemd get the same command; odd characters survive systemd's quoting."""
    command = ["/usr/bin/python3", "-m", "workers.cli.join", "h:1", "--node", 'a b%c$d"e']
    mac = service_units.unit(command, tmp_path / "log", platform="darwin", home=tmp_path)
    plist = plistlib.loads(mac.content)
    assert plist["ProgramArguments"] == [*command, "--log-file", str(tmp_path / "log")]
    assert plist["RunAtLoad"] is True
    assert mac.path == tmp_path / "Library/LaunchAgents/io.allsorts.worker.plist"
    linux = service_units.unit(command, tmp_path / "log", platform="linux", home=tmp_path)
    assert b'ExecStart=/usr/bin/python3 -m workers.cli.join h:1 --node "a b%%c$$d\\"e"' in linux.content
    limits = service_units.Limits(cores=2, memory_bytes=2**31)
    capped = service_units.unit(command, tmp_path / "log", limits=limits, platform="linux", home=tmp_path)
    assert b"CPUQuota=200%\nMemoryMax=3221225472\n" in capped.content
    assert b"CPUQuota" not in linux.content
    with pytest.raises(OSError, match="knows macOS and Linux"):
        service_units.unit(command, tmp_path / "log", platform="win32")


def test_a_unit_is_written_privately_and_removed_again(tmp_path: Path) -> None:
    """What cannot be started from here is handed back as lines to type."""
    unit = service_units.Unit(
        path=tmp_path / "x" / "unit", content=b"x", start=(("true",), ("false",), ("later", "a b")), stop=(("false",),)
    )
    assert service_units.install(unit) == ["false", "later 'a b'"]
    assert unit.path.stat().st_mode & 0o077 == 0
    assert service_units.remove(unit)
    assert not service_units.remove(unit)


async def test_a_machine_joins_with_nothing_and_waits_for_models(pool: Head, tmp_path: Path) -> None:
    """It has no file, serves nothing, and stays; what it lets others have of it is told before and reported."""
    models = tmp_path / "models"
    models.mkdir()
    waits = ("--wait-for-models", "--models", str(models), "--max-memory", "1GiB", "--node", "mac", "--no-benchmark")
    line = (pool.enrol_address, "--token", await pool.token(), "--state-dir", str(tmp_path / "mac"), *waits)
    async with joining(*line) as process:
        await until_async(pool.membership.members, "it has joined", within_s=60)
        (member,) = pool.membership.members()
        assert member.profile.takes_models
        assert member.profile.memory_limit_bytes == 2**30
        assert (member.state, member.models) == (WorkerState.ENROLLED, {})
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert f"what the fleet's operator has loaded of the files in {models}" in err.decode()
