"""Compiling llama.cpp as a wheel, with progress, kept for the next time on this machine and for machines like it.

llama-cpp-python comes as source alone. pip's own cache knows the source and nothing else, and would hand out a build
for another processor: here a wheel is kept under the key of all that went into it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from protos.contract.locks import only, read_lock
from workers.errors import WorkerError
from workers.installing.llama_plan import PACKAGE, TRIM, LlamaPlan
from workers.installing.toolbox import Toolbox

NOTE = "build.json"
WORK = ".build-"
BUILD_DEADLINE_S = 7200.0
"""CUDA's kernels take tens of minutes on few cores."""

TAIL_LINES = 30

Progress = Callable[[int, int, float], None]
"""Steps done, steps in all, seconds since the start."""

_STEP = re.compile(r"\[(\d+)/(\d+)\]")


class BuildFailed(WorkerError):
    """The compiler's own words at the end of one line; ``log`` is where the rest is."""

    def __init__(self, line: str, log: Path) -> None:
        super().__init__(line)
        self.log = log


def kept_folder(cache: Path, plan: LlamaPlan, tools: Toolbox) -> Path:
    """Where a build of this plan lies, or will: another compiler builds anew."""
    compiler = re.sub(r"[^A-Za-z0-9.]+", "-", tools.compiler)[:40].strip("-") or "compiler"
    return cache / "wheels" / f"llama-{plan.key[:16]}-{compiler}"


def kept_wheel(folder: Path) -> Path | None:
    """A finished build; None when there is none."""
    return next(iter(sorted(folder.glob("*.whl"))), None) if (folder / NOTE).exists() else None


def keep_note(folder: Path, key: str, about: str) -> None:
    """What makes a folder whole: what its wheel is, for whom."""
    (folder / NOTE).write_bytes(msgspec.json.encode({"key": key, "about": about}))


def build(plan: LlamaPlan, folder: Path, progress: Progress = lambda *_: None) -> Path:
    """Compile into ``folder``; the wheel. Raises BuildFailed, OSError. Ends with its caller's process group."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder.parent)
    log = folder.with_suffix(".log")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=WORK) as name:
        work = Path(name)
        (work / "source.txt").write_text(only(read_lock("llama"), PACKAGE))
        code, tail = _run(_command(work), {**os.environ, **_variables(plan)}, log, progress)
        wheels = sorted((work / "wheel").glob("*.whl"))
        if code != 0 or not wheels:
            reason = next((line for line in reversed(tail) if "error" in line.lower()), tail[-1] if tail else "")
            raise BuildFailed(f"llama.cpp was not built: {reason.strip()[:200]}; all of it: {log}", log)
        fresh = work / "kept"
        fresh.mkdir()
        shutil.move(wheels[0], fresh)
        keep_note(fresh, plan.key, plan.about)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    log.unlink(missing_ok=True)
    wheel = kept_wheel(folder)
    assert wheel is not None
    return wheel


def _clear_abandoned(folder: Path) -> None:
    """What builds left that were ended without a word: nothing works on it longer than a build may take."""
    for one in folder.glob(f"{WORK}*"):
        if time.time() - one.stat().st_mtime > BUILD_DEADLINE_S:
            shutil.rmtree(one, ignore_errors=True)


def _command(work: Path) -> list[str]:
    return [
        sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "-v", "--no-cache-dir", "--no-deps",
        "--require-hashes", "--wheel-dir", str(work / "wheel"), "-r", str(work / "source.txt"),
    ]  # fmt: skip


def _variables(plan: LlamaPlan) -> dict[str, str]:
    options = [*plan.options, f"-DCMAKE_PROJECT_INCLUDE={TRIM}"]
    generator = {"CMAKE_GENERATOR": "Ninja"} if shutil.which("ninja") else {}
    no_cache = {"PIP_NO_CACHE_DIR": "1"}  # of the pip, too, that fetches what the build needs
    return {"CMAKE_ARGS": " ".join(options), **no_cache, **generator, **plan.environment}


def _run(command: list[str], environment: dict[str, str], log: Path, progress: Progress) -> tuple[int, list[str]]:
    """Exit status, and its last lines."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    began = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        ) as process,
    ):
        late = threading.Timer(BUILD_DEADLINE_S, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                tail.append(line)
                if step := _STEP.search(line):
                    progress(int(step[1]), int(step[2]), time.monotonic() - began)
            return process.wait(), list(tail)
        except BaseException:
            process.terminate()
            raise
        finally:
            late.cancel()
