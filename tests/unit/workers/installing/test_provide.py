"""Where llama.cpp comes from: kept here, from the head for machines alike, or compiled; and what stops it."""

import hashlib
import os
from pathlib import Path

import pytest

from protos.contract.worker import Hardware
from workers.installing import provide
from workers.installing.door_client import Build, NotOffered, Offer, Package
from workers.installing.llama_build import BuildFailed, build, keep_note, kept_folder, kept_wheel
from workers.installing.llama_plan import LlamaPlan, plan
from workers.installing.provide import CannotProvide, provide_llama
from workers.installing.toolbox import Toolbox

TOOLS = Toolbox(system="linux", machine="x86_64", programs={"c++": "/c", "cmake": "/c"}, compiler="c++ (Debian) 12.2")
NAME = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"


class FakeDoor:
    """A head that offers ``builds`` and ``packages``."""

    def __init__(self, *builds: Build, packages: tuple[Package, ...] = (), broken: bool = False) -> None:
        self._offer = Offer(wheel="w", wheel_sha256="0", packages=packages, builds=builds)
        self._broken = broken
        self.fetched: list[str] = []

    def offer(self) -> Offer:
        if self._broken:
            raise NotOffered("no answer")
        return self._offer

    def fetch(self, path: str, sha256: str, into: Path) -> Path:
        self.fetched.append(path)
        (into / Path(path).name).write_bytes(sha256.encode())
        return into / Path(path).name


class Scene:
    """What was said, installed and compiled."""

    def __init__(self, cache: Path, chosen: LlamaPlan) -> None:
        self.cache = cache
        self.plan = chosen
        self.said: list[str] = []
        self.pip: list[tuple[str, ...]] = []
        self.built: list[Path] = []

    def provide(self, door: FakeDoor | None = None, *, anew: bool = False) -> Path:
        return provide_llama(
            self.cache, say=self.said.append, progress=lambda *_: None, door=door, anew=anew  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path, plan(Hardware(kind="cpu", name="EPYC"), TOOLS))

    def compile_(chosen: LlamaPlan, folder: Path, progress: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        made.built.append(folder)
        (folder / NAME).write_bytes(b"compiled")
        keep_note(folder, chosen.key, chosen.about)
        return folder / NAME

    monkeypatch.setattr(provide, "llama_plan_here", lambda wanted: (made.plan, TOOLS))
    monkeypatch.setattr(provide, "build", compile_)
    monkeypatch.setattr(provide, "_pip", lambda *arguments: made.pip.append(arguments))
    monkeypatch.setattr(provide, "_check", lambda chosen: None)
    return made


def offered(key: str) -> Build:
    return Build(key=key, name=NAME, size_bytes=8, sha256=hashlib.sha256(b"x").hexdigest(), about="alike")


def test_it_is_compiled_once_and_kept(scene: Scene) -> None:
    """The second time takes seconds; ``anew`` compiles all the same."""
    folder = scene.provide()
    assert scene.built == [folder]
    assert scene.provide() == folder
    assert scene.built == [folder]
    assert "compiled here before" in scene.said[-1]
    scene.provide(anew=True)
    assert scene.built == [folder] * 2
    assert scene.pip[-1][-1] == str(folder / NAME)
    assert kept_folder(scene.cache, scene.plan, TOOLS) == folder


def test_a_machine_alike_gets_it_from_the_head(scene: Scene) -> None:
    """By its key alone; it is kept here as if it had been compiled here."""
    door = FakeDoor(offered("00" * 16), offered(scene.plan.key))
    folder = scene.provide(door)
    assert door.fetched == [f"builds/{scene.plan.key}/{NAME}"]
    assert scene.built == []
    assert kept_wheel(folder) == folder / NAME
    stranger = FakeDoor(offered("00" * 16))
    scene.provide(stranger, anew=True)
    assert (stranger.fetched, len(scene.built)) == ([], 1)


def test_a_head_that_does_not_answer_stops_nothing(scene: Scene) -> None:
    """It is said, and llama.cpp is compiled."""
    scene.provide(FakeDoor(broken=True))
    assert any("no answer" in one for one in scene.said)
    assert len(scene.built) == 1


def test_what_it_needs_comes_from_the_heads_wheels_alone_where_it_has_some(scene: Scene) -> None:
    """As with the base install; wheels of other packages are not fetched."""
    numpy, other = (Package(name=f"{one}-1-py3-none-any.whl", size_bytes=1, sha256="0") for one in ("numpy", "torch"))
    door = FakeDoor(offered(scene.plan.key), packages=(numpy, other))
    scene.provide(door)
    assert "files/numpy-1-py3-none-any.whl" in door.fetched
    assert "files/torch-1-py3-none-any.whl" not in door.fetched
    assert "--no-index" in scene.pip[0]
    assert "--require-hashes" in scene.pip[0]


def test_nothing_starts_while_something_is_missing(scene: Scene) -> None:
    """What is offered or kept needs no compiler."""
    scene.plan = plan(Hardware(kind="cpu", name="EPYC"), Toolbox(system="linux", machine="x86_64"))
    with pytest.raises(CannotProvide, match=r"a C\+\+ compiler is missing"):
        scene.provide()
    assert (scene.built, scene.pip) == ([], [])
    scene.provide(FakeDoor(offered(scene.plan.key)))
    assert scene.built == []


def test_a_build_that_fails_says_the_compilers_words_and_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is told on the way; no folder is left that looks like a build."""
    script = (
        "print('[1/2] a'); print('[2/2] b'); print('x.cpp:1: error: no such thing'); print('done'); raise SystemExit(1)"
    )
    monkeypatch.setattr("workers.installing.llama_build._command", lambda work: ["python3", "-c", script])
    steps: list[tuple[int, int]] = []
    folder = tmp_path / "wheels" / "llama-1"
    with pytest.raises(BuildFailed, match="error: no such thing") as failed:
        build(plan(Hardware(kind="cpu", name="x"), TOOLS), folder, lambda done, total, _: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert "[2/2] b" in failed.value.log.read_text()
    assert [one.name for one in folder.parent.iterdir()] == ["llama-1.log"]


def test_what_an_ended_build_left_is_cleared_by_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is older than any build can be; one that may still run is let be."""
    folder = tmp_path / "llama-1"
    old, fresh = tmp_path / ".build-old", tmp_path / ".build-fresh"
    for one in (old, fresh):
        (one / "wheel").mkdir(parents=True)
    os.utime(old, (0, 0))
    monkeypatch.setattr(
        "workers.installing.llama_build._command", lambda work: ["python3", "-c", "raise SystemExit(1)"]
    )
    with pytest.raises(BuildFailed):
        build(plan(Hardware(kind="cpu", name="x"), TOOLS), folder)
    assert (old.exists(), fresh.exists()) == (False, True)
