"""``allsorts dist``: what an operator puts beside the head's own wheel."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from protos.contract.locks import only, read_lock, without
from router.cli.dist import _platforms, app
from router.dist.builds import Builds
from router.dist.shelf import MAX_FILES, Shelf, shelf_folder
from router.errors import ConfigError

NAME = "numpy-2.0-cp311-cp311-macosx_14_0_arm64.whl"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_wheels_are_added_listed_and_removed(tmp_path: Path) -> None:
    """A folder's wheels, or one; what is no wheel is refused by name, and nothing of that call is kept half."""
    house = tmp_path / "house"
    house.mkdir()
    (house / NAME).write_bytes(b"x" * 1_500_000)
    (house / "notes.txt").write_text("no wheel")
    state = ("--state-dir", tmp_path / "state")
    assert "ask their package index" in run("list", *state).output
    done = run("add", house, *state)
    assert (done.exit_code, f"1 wheels in {tmp_path / 'state' / 'wheels'}" in done.output) == (0, True), done.output
    listed = run("list", *state).output
    assert NAME in listed
    assert "1.5" in listed
    for wrong, said in (((house / "notes.txt",), "not a wheel"), ((tmp_path,), "no wheels there"), ((), "--platform")):
        refused = run("add", *wrong, *state)
        assert isinstance(refused.exception, ConfigError)
        assert said in str(refused.exception)
    gone = run("remove", NAME, "x-1-py3-none-any.whl", *state)
    assert (gone.exit_code, gone.output.splitlines()) == (1, [f"{NAME}: removed", "x-1-py3-none-any.whl: is not there"])
    assert run("remove", "../../etc/passwd", *state).exit_code == 1


def test_a_builds_folder_is_offered_under_its_key(tmp_path: Path) -> None:
    """Again replaces it; a damaged folder is refused."""
    source = tmp_path / "llama-1"
    source.mkdir()
    note = source / "build.json"
    note.write_text(json.dumps({"key": "cd" * 16, "about": "llama.cpp, metal"}))
    state = ("--state-dir", tmp_path / "state")
    assert "copy the whole folder again" in str(run("add", source, *state).exception)
    (source / "llama_cpp_python-1-py3-none-macosx_14_0_arm64.whl").write_bytes(b"one")
    for content in (b"one", b"two"):
        (source / "llama_cpp_python-1-py3-none-macosx_14_0_arm64.whl").write_bytes(content)
        assert "llama.cpp, metal" in run("add", source, *state).output
        (build,) = Builds(shelf_folder(str(tmp_path / "state"))).all()
        assert build.package.size_bytes == len(content)
    assert "llama.cpp, metal" in run("list", *state).output
    note.write_text(json.dumps({"key": "../../x"}))
    assert "damaged" in str(run("add", source, *state).exception)
    assert "removed" in run("remove", "cd" * 16, *state).output
    assert Builds(shelf_folder(str(tmp_path / "state"))).all() == []


def test_a_shelf_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is copied."""
    monkeypatch.setattr("router.dist.shelf.MAX_FILES", 1)
    assert MAX_FILES > 500
    house = tmp_path / "house"
    house.mkdir()
    for number in range(2):
        (house / f"x-{number}-py3-none-any.whl").write_bytes(b"x")
    with pytest.raises(ConfigError, match="more than 1"):
        Shelf(tmp_path / "shelf").add([house])
    assert not (tmp_path / "shelf").exists()


def test_with_the_state_in_redis_the_shelf_is_this_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A URL is no folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert shelf_folder("redis://h/0") == shelf_folder("")
    assert shelf_folder("~/x") == Path.home() / "x" / "wheels"


def test_locks_come_apart_by_package() -> None:
    """Every entry with its hashes; the two parts are the whole."""
    lock = read_lock("llama")
    one, rest = only(lock, "llama-cpp-python"), without(lock, "llama-cpp-python")
    assert one.startswith("llama-cpp-python==")
    assert "--hash=sha256:" in one
    assert "llama-cpp-python" not in rest
    assert len(one) + len(rest) == len(lock)


def test_what_a_linux_takes_is_asked_for_with_every_older_tag() -> None:
    """pip knows that of the machine it runs on, and of a Mac's tags."""
    tags = _platforms("manylinux_2_18_aarch64")[1::2]
    assert tags[:3] == ["manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux_2_16_aarch64"]
    assert tags[-3:] == ["manylinux2014_aarch64", "manylinux2010_aarch64", "manylinux1_aarch64"]
    assert _platforms("macosx_14_0_arm64") == ["--platform", "macosx_14_0_arm64"]
