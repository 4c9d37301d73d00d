"""Rule: logind waits until what runs here has moved, or for a moment only; the lock it waits for ends with the program.

logind and its tools are played by scripts of their names; the lines are those that gdbus(1) prints.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.until import until
from workers.owner import sleep_linux
from workers.owner.sleep import announcer, slept_s

LINE = "/org/freedesktop/login1: org.freedesktop.login1.Manager.PrepareForSleep ({word},)"

GDBUS = """#!/bin/sh
echo "Monitoring signals on object /org/freedesktop/login1 owned by org.freedesktop.login1"
mkfifo {folder}/signals
exec cat {folder}/signals {folder}/signals
"""
INHIBIT = """#!/bin/sh
echo "taken $*" >> {folder}/locks
cat
echo released >> {folder}/locks
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("gdbus", GDBUS), ("systemd-inhibit", INHIBIT)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o700)
    return tmp_path


@pytest.fixture
def program(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.owner.sleep_linux"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def locks(folder: Path) -> list[str]:
    path = folder / "locks"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_sleep_waits_for_the_streams_and_a_new_lock_is_taken_after_it(
    folder: Path, program: "subprocess.Popen[str]"
) -> None:
    """taken, released when moved, taken anew when awake, released at the end."""
    assert program.stdin is not None
    assert program.stdout is not None
    until(lambda: locks(folder) == ["taken"] and (folder / "signals").exists(), "the lock")
    with (folder / "signals").open("w") as signals:
        print("/org/freedesktop/login1: org.freedesktop.login1.Manager.SessionNew ('3',)", file=signals)
        print(LINE.format(word="true"), file=signals, flush=True)
        assert program.stdout.readline() == "sleep\n"
        assert locks(folder) == ["taken"]
        program.stdin.write("moved\n")
        program.stdin.flush()
        until(lambda: locks(folder) == ["taken", "released"], "the lock is released")
        print(LINE.format(word="false"), file=signals, flush=True)
        assert program.stdout.readline() == "wake\n"
        until(lambda: locks(folder) == ["taken", "released", "taken"], "a new lock")
        program.stdin.close()
        assert program.wait(30) == 0
    until(lambda: locks(folder)[-1] == "released", "the lock ends with the program")
    first = (folder / "locks").read_text().splitlines()[0]
    assert "--what=sleep --mode=delay --who=Allsorts" in first
    program.stdin = None


def test_where_logind_cannot_be_heard_nothing_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has no bus; a server may lack the tools."""
    monkeypatch.setenv("PATH", str(folder))
    (folder / "bus").touch()
    assert sleep_linux.possible(folder / "bus")
    assert not sleep_linux.possible(folder / "nope")
    (folder / "gdbus").unlink()
    assert not sleep_linux.possible(folder / "bus")
    assert announcer("darwin")[-1] == "workers.owner.sleep_mac"
    assert announcer("win32") == ()


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="clocks of these systems")
def test_clocks_tell_how_long_this_machine_has_slept() -> None:
    """It does not sleep while this runs."""
    assert slept_s() >= -0.001
    assert abs(slept_s() - slept_s()) < 1.0
