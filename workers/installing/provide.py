"""llama.cpp into the environment that runs: kept from before, from the head for machines alike, or a fresh build.

What it needs beside it comes pinned and checked by hash: from the head's wheels where the operator put some there, else
from the package index that pip is set up for.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from protos.contract.locks import read_lock, without
from workers.errors import WorkerError
from workers.hardware.detect import this_machine
from workers.installing.door_client import Build, DoorClient, NotOffered, Offer
from workers.installing.llama_build import Progress, build, keep_note, kept_folder, kept_wheel
from workers.installing.llama_plan import PACKAGE, Backend, LlamaPlan, plan
from workers.installing.toolbox import Toolbox, look

LLAMA_CPP = "llama.cpp"
MODULE = "llama_cpp"
OPTIONS = "ALLSORTS_CMAKE_ARGS"
"""More options for its build, by its owner."""

INSTALL_DEADLINE_S = 900.0
CHECK_DEADLINE_S = 60.0

Say = Callable[[str], None]


class CannotProvide(WorkerError):
    """Something is missing, or does not work; one line, with what to do."""


def llama_plan_here(wanted: Backend | None = None) -> tuple[LlamaPlan, Toolbox]:
    """How it would be built on this machine. Blocks for seconds."""
    tools = look()
    return plan(this_machine(), tools, wanted, tuple(os.environ.get(OPTIONS, "").split())), tools


def provide_llama(
    cache: Path,
    *,
    say: Say,
    progress: Progress,
    wanted: Backend | None = None,
    door: DoorClient | None = None,
    anew: bool = False,
) -> Path:
    """Install llama.cpp; the folder its wheel is kept in. ``anew``: compile even where a build is kept or offered.

    What is missing is said before anything starts. Raises CannotProvide, BuildFailed, NotOffered, OSError.
    """
    chosen, tools = llama_plan_here(wanted)
    folder = kept_folder(cache, chosen, tools)
    offer = _offer(door, say)
    wheel = None if anew else kept_wheel(folder)
    if wheel is not None:
        say(f"{chosen.about}: compiled here before")
    elif not anew and (found := _offered(offer, chosen)) is not None:
        assert door is not None
        wheel = _fetch(door, found, folder)
        say(f"{chosen.about}: a machine like this one compiled it; from the head, {found.size_bytes / 1e6:.0f} MB")
    else:
        refuse_if_missing(chosen)
        for note in chosen.notes:
            say(note)
        say(f"{chosen.about}: compiling, minutes on most machines ({' '.join(chosen.options)})")
        wheel = build(chosen, folder, progress)
    _install(wheel, offer, door)
    _check(chosen)
    return folder


def refuse_if_missing(chosen: LlamaPlan) -> None:
    """Raises CannotProvide naming everything at once."""
    if not chosen.missing:
        return
    lines = "; ".join(f"{one.what} is missing: {one.command}" for one in chosen.missing)
    ways = "" if chosen.backend is Backend.CPU else ", or build for the processor alone with --backend cpu"
    raise CannotProvide(f"{chosen.about} cannot be compiled yet: {lines}; then try again{ways}")


def _offer(door: DoorClient | None, say: Say) -> Offer | None:
    """What the head has; None when it is not asked, or does not answer: this machine can do without."""
    if door is None:
        return None
    try:
        return door.offer()
    except NotOffered as error:
        say(f"the head offers nothing to build with: {error}")
        return None


def _offered(offer: Offer | None, chosen: LlamaPlan) -> Build | None:
    return next((one for one in (offer.builds if offer else ()) if one.key == chosen.key), None)


def _fetch(door: DoorClient, found: Build, folder: Path) -> Path:
    """Into the folder that a build of this machine's own would lie in."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = door.fetch(f"builds/{found.key}/{found.name}", found.sha256, folder)
    keep_note(folder, found.key, found.about)
    return wheel


def _install(wheel: Path, offer: Offer | None, door: DoorClient | None) -> None:
    """The wheel, and what it needs. Raises CannotProvide."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rest = work / "rest.txt"
        rest.write_text(without(read_lock("llama"), PACKAGE))
        source: list[str] = []
        if offer is not None and door is not None and offer.packages:  # the operator's wheels alone, as for the base
            wanted = {line.partition("==")[0].lower() for line in rest.read_text().splitlines() if line[:1].isalnum()}
            for one in offer.packages:
                if one.name.partition("-")[0].replace("_", "-").lower() in wanted:
                    door.fetch(f"files/{one.name}", one.sha256, work)
            source = ["--no-index", "--find-links", str(work)]
        _pip("install", "--require-hashes", *source, "-r", str(rest))
        _pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    importlib.invalidate_caches()


def _check(chosen: LlamaPlan) -> None:
    """It loads, and computes where it was built for. Raises CannotProvide."""
    script = f"import {MODULE}; print(int({MODULE}.llama_supports_gpu_offload()))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=CHECK_DEADLINE_S, check=False
        )
        said, fine = (done.stderr.splitlines() or [""])[-1], done.returncode == 0
    except subprocess.TimeoutExpired:
        said, fine = f"no answer within {CHECK_DEADLINE_S:.0f} s", False
    if not fine:
        raise CannotProvide(f"{chosen.about} was installed and does not load: {said}; build it with --anew")
    if chosen.backend is not Backend.CPU and done.stdout.strip() != "1":
        raise CannotProvide(f"{chosen.about} was installed and computes on no GPU; build it with --anew")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "-q", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise CannotProvide(f"pip did not finish within {INSTALL_DEADLINE_S:.0f} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotProvide(f"pip: {(errors or done.stderr.strip().splitlines() or ['failed'])[-1]}")
