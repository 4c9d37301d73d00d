"""A bare machine: a home folder and a Python, in a network of its own. It gets the printed line and nothing else.

The head hands out its own wheel, the packages beside it (fetched beforehand: that network has no package index) and
llama.cpp as this machine compiled it. What the owner brings is a model file. Then: pasted again, a line of another
hash, and leaving.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.join import environments
from loadtest.bench.join.environments import NotInstalled, run
from loadtest.bench.join.head import Head, NotServed
from loadtest.bench.join.network import Network, network_of_its_own
from protos.contract.locks import read_lock, without
from router.cli.support.processes import Child, stop_all
from router.dist.builds import Builds
from router.dist.shelf import Shelf, shelf_folder
from workers.installing.llama_build import build, kept_folder, kept_wheel
from workers.installing.provide import llama_plan_here
from workers.joining.home import Home

MODEL = "smollm2-135m"
FILE = environments.ROOT / "build" / "models" / f"{MODEL}-q8_0.gguf"
MODELS = ".local/share/allsorts/models"
NODE = os.uname().nodename.partition(".")[0]
COMMAND = [sys.executable, "-m", "router.cli.main"]
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"

STEPS = {
    "installed": "· installed in",
    "joined": "· let in as",
    "loaded": ": benchmarking",
    "benchmarked": "is serving",
}
"""What the line says once a step is done."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A home folder with nothing in it but the owner's models, and the network it is in."""

    home: Path
    network: Network

    def paste(self, line: str, log: Path, *more: str) -> Child:
        """The line in a shell, with an environment that tells of nothing else."""
        python = Path(sys._base_executable).parent  # type: ignore[attr-defined]
        path = f"{python}:{BARE_PATH}"
        clean = ["env", "-i", f"HOME={self.home}", f"PATH={path}", "sh", "-c", " ".join([f"exec {line}", *more])]
        return Child("the line", [*self.network.within, *clean], log=log)

    def allsorts(self, *arguments: str) -> str:
        """The command that the line put there."""
        command = ["env", "-i", f"HOME={self.home}", f"PATH={BARE_PATH}", str(self.home / ".allsorts/bin/allsorts")]
        return run([*self.network.within, *command, *arguments], deadline_s=120)

    def files(self) -> dict[str, int]:
        """What is in the home folder beside the owner's models: path → when it was changed, links by themselves."""
        found = (one for one in self.home.rglob("*") if not one.is_dir() or one.is_symlink())
        told = {str(one.relative_to(self.home)): one.lstat().st_mtime_ns for one in found}
        return {name: at for name, at in told.items() if not name.endswith(".gguf")}

    def folders(self) -> set[str]:
        """Folders there beside those that the owner's models are in."""
        models = self.home / MODELS
        found = (one for one in self.home.rglob("*") if one.is_dir() and not one.is_symlink())
        return {str(one.relative_to(self.home)) for one in found if one != models and one not in models.parents}


def measure(options: argparse.Namespace, wrong: list[str]) -> Mapping[str, object]:
    """``bare_join_s``: from the paste to the first answer. ``files_left``: after leaving."""
    del options
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allsorts-bare-")))
        network = stack.enter_context(network_of_its_own())
        head = stack.enter_context(Head(COMMAND, folder / "head", host=network.head_host, options=("--without-ray",)))
        _fill_shelf(head, folder)
        machine = Machine(folder / "home", network)
        models = machine.home / MODELS
        models.mkdir(parents=True)
        shutil.copy(FILE, models)
        where = "a network of its own" if network.within else "loopback: no network namespace is possible here"
        print(f"the printed line alone, over TLS, from {where}")
        try:
            return _life(head, machine, folder, wrong)
        except (NotInstalled, NotServed) as error:
            wrong.append(f"bare: {error}")
            return {}


def _fill_shelf(head: Head, folder: Path) -> None:
    """The packages of this platform, and llama.cpp as `make` compiled it."""
    requirements = folder / "requirements.txt"
    llama = without(read_lock("llama"), "llama-cpp-python")  # all that the base has, and what llama.cpp needs
    requirements.write_text(llama)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--require-hashes",
        "--no-deps",
    ]
    run([*pip, "--only-binary", ":all:", "--dest", str(folder / "wheelhouse"), "-r", str(requirements)])
    shelf = Shelf(shelf_folder(str(head.state)))
    shelf.add([folder / "wheelhouse"])
    chosen, tools = llama_plan_here()
    built = kept_folder(Home.of().cache, chosen, tools)
    if kept_wheel(built) is None:
        print(f"{chosen.about}: compiled first", flush=True)
        build(chosen, built)
    Builds(shelf.folder).add(built)


def _life(head: Head, machine: Machine, folder: Path, wrong: list[str]) -> Mapping[str, object]:
    began = time.monotonic()
    line = head.lines()[1]
    log = folder / "line.log"
    pasted = machine.paste(line, log)
    try:
        seconds = _watch(pasted, log, began)
        head.until_ready(NODE, pasted)
        answer = head.ask(NODE, MODEL)
        seconds["first answer"] = time.monotonic() - began
    finally:
        stop_all([pasted], deadline_s=40.0)
    for name, at in seconds.items():
        print(f"  {name:14}{at:7.1f} s")
    print(f"  answered: {answer!r}")
    said = log.read_text(errors="replace").replace(str(machine.home), "~").partition("joining this machine")[0]
    print("  it said:\n    " + said.strip().replace("\n", "\n    "))
    wrong += _again(head, machine, line, folder)
    wrong += _other_hash(machine, line, folder)
    gone = machine.allsorts("leave").strip().replace(str(machine.home), "~")
    left = {*machine.files(), *machine.folders()}
    print("  leaving:\n    " + gone.replace("\n", "\n    "))
    if left:
        wrong.append(f"after leave: {', '.join(sorted(left)[:5])}")
    return {"bare_join_s": round(seconds["first answer"], 1), "files_left": len(left)}


def _watch(pasted: Child, log: Path, began: float) -> dict[str, float]:
    """When each step was done. Raises NotServed."""
    seconds: dict[str, float] = {}
    while pasted.alive and len(seconds) < len(STEPS):
        text = log.read_text(errors="replace")
        for name, said in STEPS.items():
            if said in text:
                seconds.setdefault(name, time.monotonic() - began)
        time.sleep(0.1)
    if len(seconds) < len(STEPS):
        raise NotServed(f"the line ended:\n{pasted.tail()}")
    return seconds


def _again(head: Head, machine: Machine, line: str, folder: Path) -> list[str]:
    """Pasted a second time: the same machine is back, and nothing of what was installed is touched."""
    before = _installed(machine)
    pasted = machine.paste(line, folder / "again.log")
    try:
        head.until_ready(NODE, pasted)
    finally:
        stop_all([pasted], deadline_s=40.0)
    changed = sorted({name for name, _ in _installed(machine).items() ^ before.items()})
    nodes = sorted(head.states())
    found = [f"a second paste changed {', '.join(changed[:5])}"] if changed else []
    return found + ([f"a second paste made {', '.join(nodes)} of one machine"] if nodes != [NODE] else [])


def _installed(machine: Machine) -> dict[str, int]:
    """The installation, less what the interpreter caches as it runs and the lock that every paste takes."""
    return {
        name: at
        for name, at in machine.files().items()
        if name.startswith(".allsorts/") and "__pycache__" not in name and name != ".allsorts/lock"
    }


def _other_hash(machine: Machine, line: str, folder: Path) -> list[str]:
    """A line that was made for another installer, which is to say another wheel: nothing runs."""
    before = machine.files()
    at = line.index('hexdigest()=="') + len('hexdigest()=="')
    log = folder / "other.log"
    pasted = machine.paste(line[:at] + "0" * 64 + line[at + 64 :], log)
    pasted.wait(60.0)
    said = log.read_text()
    found = [] if "another version than this line was made for" in said else [f"another hash: {said[-200:]!r}"]
    return found + (["another hash: files were changed"] if machine.files() != before else [])
