"""The installer for bare machines, without a network: which Python, which wheels, and what stays after a failure."""

import ast
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.dist import bare_machine
from router.dist.bare_machine import CannotInstall

LOCK = "x==1 --hash=sha256:00\n"


def wheel() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(bare_machine.LOCK, LOCK)
    return data.getvalue()


class FakeDoor:
    """A head that hands out ``files``; counts what it is asked."""

    host, port = "head", 8098

    def __init__(self, packages: dict[str, bytes] | None = None, data: bytes = b"") -> None:
        self.packages = packages or {}
        self.data = data or wheel()
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        self.asked.append(path)
        if path == "/offer.json":
            told = [{"name": name, "sha256": hashlib.sha256(one).hexdigest()} for name, one in self.packages.items()]
            return json.dumps({"packages": told}).encode()
        name = path.removeprefix("/files/")
        return self.data if name == bare_machine.WHEEL else self.packages[name]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bare_machine, "WHEEL", "allsorts-1-py3-none-any.whl")
    monkeypatch.setattr(bare_machine, "WHEEL_SHA256", hashlib.sha256(wheel()).hexdigest())
    monkeypatch.setenv("ALLSORTS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "versions" / bare_machine.WHEEL_SHA256[:16]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """Environments that were asked for: arguments, and the requirements file as it was then."""
    asked: list[tuple[list[str], str]] = []

    def make(folder: Path, arguments: list[str]) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "allsorts").write_text("")
        asked.append((arguments, Path(arguments[arguments.index("-r") + 1]).read_text()))

    monkeypatch.setattr(bare_machine, "make_environment", make)
    return asked


def test_it_is_written_for_the_oldest_python_it_may_meet() -> None:
    """Python 3.8 gets far enough to look for a newer one."""
    ast.parse(Path(bare_machine.__file__).read_text(), feature_version=(3, 8))


def test_everything_is_installed_by_version_and_hash(place: Path, made: list[tuple[list[str], str]]) -> None:
    """The lock is the one inside the wheel; the wheel itself is one of its lines."""
    bare_machine.install(FakeDoor(), place)  # type: ignore[arg-type]
    ((arguments, requirements),) = made
    assert "--require-hashes" in arguments
    assert "--no-index" not in arguments
    own = f"allsorts @ {(place / 'files' / bare_machine.WHEEL).as_uri()} --hash=sha256:{bare_machine.WHEEL_SHA256}"
    assert requirements.splitlines() == [LOCK.strip(), own]
    assert (place / "whole").exists()
    assert not (place / "files").exists()


def test_where_the_head_has_wheels_they_are_used_alone(place: Path, made: list[tuple[list[str], str]]) -> None:
    """Those for this system are fetched; others stay where they are."""
    other = "x-1-cp311-cp311-win_amd64.whl"
    door = FakeDoor({"x-1-py3-none-any.whl": b"1", other: b"2"})
    bare_machine.install(door, place)  # type: ignore[arg-type]
    assert "--no-index" in made[0][0]
    assert "/files/x-1-py3-none-any.whl" in door.asked
    assert f"/files/{other}" not in door.asked


def test_of_an_installation_that_fails_nothing_is_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed wheel, a package index that does not answer."""
    with pytest.raises(CannotInstall, match="Nothing was installed"):
        bare_machine.install(FakeDoor(data=b"changed"), place)  # type: ignore[arg-type]
    assert not place.exists()

    def fails(folder: Path, arguments: list[str]) -> None:
        folder.mkdir()
        raise CannotInstall("pip failed")

    monkeypatch.setattr(bare_machine, "make_environment", fails)
    with pytest.raises(CannotInstall, match="pip failed"):
        bare_machine.install(FakeDoor(), place)  # type: ignore[arg-type]
    assert not place.exists()


@pytest.mark.usefixtures("made")
def test_it_becomes_the_join_and_a_second_time_it_only_joins(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token goes along in the environment, where other users of the machine do not see it."""
    became: list[list[str]] = []
    doors: list[FakeDoor] = []

    def door(address: str, token: str) -> FakeDoor:
        assert (address, token) == ("h:8098", "as1.t")
        doors.append(FakeDoor())
        return doors[-1]

    monkeypatch.setattr(bare_machine, "Door", door)
    monkeypatch.setattr(bare_machine.os, "execv", lambda _, words: became.append(words))
    monkeypatch.setattr(bare_machine.os, "environ", dict(os.environ))
    for _ in range(2):
        bare_machine.main("h:8098", ["h:8099", "as1.t", "--node", "mac"])
    command = str(place.parents[1] / "bin" / "allsorts")
    assert became == [[command, "join", "h:8099", "--node", "mac"]] * 2
    assert bare_machine.os.environ["ALLSORTS_TOKEN"] == "as1.t"
    assert len(doors) == 1
    assert "installed already" in capsys.readouterr().err
    assert Path(command).resolve() == (place / "env" / "bin" / "allsorts").resolve()


def test_what_goes_wrong_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And status 1; nobody is joined."""

    def door(address: str, token: str) -> FakeDoor:
        raise CannotInstall(f"{address}: no route")

    monkeypatch.setattr(bare_machine, "Door", door)
    assert bare_machine.main("h:8098", ["h:8099", "as1.t"]) == 1
    assert capsys.readouterr().err == "allsorts: h:8098: no route\n"
    assert not place.exists()


@pytest.mark.parametrize(
    ("platform", "machine", "name", "fits"),
    [
        ("linux", "x86_64", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("linux", "x86_64", "a-1-cp311-cp311-manylinux_2_28_aarch64.whl", False),
        ("linux", "aarch64", "a-1-cp39-abi3-manylinux_2_28_aarch64.whl", True),
        ("linux", "x86_64", "a-1-cp311-cp311-macosx_14_0_x86_64.whl", False),
        ("darwin", "arm64", "a-1-cp311-cp311-macosx_14_0_arm64.whl", True),
        ("darwin", "arm64", "a-1-cp311-cp311-macosx_11_0_universal2.whl", True),
        ("darwin", "arm64", "a-1-cp311-cp311-manylinux_2_28_aarch64.whl", False),
        ("darwin", "x86_64", "a-1-py3-none-any.whl", True),
        ("linux", "x86_64", "a-1-1build-py2.py3-none-any.whl", True),
        ("linux", "x86_64", "a-1-cp27-cp27m-manylinux1_x86_64.whl", False),
    ],
)
def test_wheels_of_other_systems_are_not_fetched(
    platform: str, machine: str, name: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the tags in their names; the installer has the last word."""
    monkeypatch.setattr(bare_machine.os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(bare_machine.sys, "platform", platform)
    assert bare_machine.runs_here(name) is fits


def program(path: Path, status: int) -> Path:
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_an_older_python_finds_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest that starts and is new enough; none: said with what to install."""
    monkeypatch.setattr(bare_machine, "NEEDS", (*sys.version_info[:1], sys.version_info[1] + 1))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bare_machine.shutil, "which", lambda name, path="": _in(tmp_path, name))
    assert bare_machine.interpreter() is None
    with pytest.raises(CannotInstall, match="paste the line again"):
        bare_machine.make_environment(tmp_path / "env", [])
    program(tmp_path / "python3.20", 1)
    newer = program(tmp_path / "python3.19", 0)
    assert bare_machine.interpreter() == str(newer)


def _in(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def test_without_venv_uv_makes_the_environment_and_without_both_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's python3 comes without venv."""
    commands: list[list[str]] = []
    python = program(tmp_path / "python3", 1)
    monkeypatch.setattr(bare_machine, "interpreter", lambda: str(python))
    monkeypatch.setattr(bare_machine.shutil, "which", lambda name: _in(tmp_path, name))
    monkeypatch.setattr(bare_machine, "run", commands.append)
    with pytest.raises(CannotInstall, match="apt-get install python3-venv"):
        bare_machine.make_environment(tmp_path / "env", ["--require-hashes"])
    program(tmp_path / "uv", 0)
    bare_machine.make_environment(tmp_path / "env", ["--require-hashes"])
    assert [one[1:3] for one in commands] == [["venv", "-q"], ["pip", "install"]]
    assert "--require-hashes" in commands[1]


def test_a_wheel_that_the_head_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that adds it; other failures keep the installer's own words."""

    def says(text: str) -> Any:
        done = SimpleNamespace(returncode=1, stdout=text.encode())
        monkeypatch.setattr(bare_machine.subprocess, "run", lambda *_, **__: done)

    says("ERROR: No matching distribution found for numpy==2.4.6\n")
    with pytest.raises(CannotInstall, match=r"no numpy==2.4.6 for this machine .*; on the head: allsorts dist add"):
        bare_machine.run(["pip", "install", "--no-index"])
    says("ERROR: hashes differ\n")
    with pytest.raises(CannotInstall, match="hashes differ"):
        bare_machine.run(["pip", "install"])
