"""The engines that this version has, for another version beside it: an environment begins with none."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

from workers.installing.own_version import CannotInstall, Say

BUILD_DEADLINE_S = 3600.0

MODULES = {"llama.cpp": "llama_cpp"}
"""By engine: what is there when it is installed. Others are not installed by ``allsorts engine install``."""


def install_engines(place: Path, head: str, state_dir: Path | None, say: Say) -> None:
    """With the new version's own command; a wheel that was compiled here is kept and needs no second time.

    Raises CannotInstall.
    """
    for engine, module in MODULES.items():
        if find_spec(module) is None:
            continue
        say(f"{engine} for the new version")
        command = [str(place / "env" / "bin" / "allsorts"), "engine", "install", engine, "--head", head]
        command += ["--state-dir", str(state_dir)] if state_dir is not None else []
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=BUILD_DEADLINE_S, check=False)
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"{engine} was not ready within {BUILD_DEADLINE_S:.0f} s; see above") from None
        if done.returncode != 0:
            raise CannotInstall(f"{engine} could not be installed for the new version; see above")
