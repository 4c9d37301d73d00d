"""Environments as users make them: from the project's wheel and what it declares, and nothing of this checkout."""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("router", "workers", "protos", "loadtest")
INSTALL_DEADLINE_S = 900.0
KEPT_WHEELS = Path.home() / ".cache" / "allsorts" / "wheels"
"""Where `allsorts engine install` keeps what it compiled, as `make` runs it."""

_MB = 1e6


class NotInstalled(Exception):
    """An environment could not be made; the end of what pip said."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def allsorts(self) -> str:
        """The command, as the wheel's entry point made it."""
        return str(self.folder / "bin" / "allsorts")

    def mb(self) -> float:
        """Size of all its files, pip's own and compiled modules included, in 10^6 bytes."""
        files = (one for one in self.folder.rglob("*") if one.is_file() and not one.is_symlink())
        return sum(one.stat().st_size for one in files) / _MB

    def distributions(self) -> set[str]:
        """Names of what is installed."""
        script = "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()})"
        return set(run([self.python, "-c", script]).split())


def run(
    command: list[str], *, deadline_s: float = INSTALL_DEADLINE_S, environment: dict[str, str] | None = None
) -> str:
    """What it prints. Raises NotInstalled with the end of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{' '.join(command[:4])} …: not done within {deadline_s:.0f} s") from None
    if done.returncode != 0:
        raise NotInstalled("\n".join((done.stdout + done.stderr).strip().splitlines()[-5:]))
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The project's wheel, built by its build system from a copy, so that the checkout stays clean."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        for one in PACKAGES:
            shutil.copytree(ROOT / one, source / one, ignore=shutil.ignore_patterns("__pycache__"))
        for one in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / one, source)
        run([*_pip(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)])
    return next(folder.glob("allsorts-*.whl"))


def make(folder: Path, wheel: Path, extra: str, pins: Path) -> Environment:
    """A fresh environment with the wheel, one extra, and what they declare, at the pinned versions."""
    run([sys.executable, "-m", "venv", str(folder)])
    environment = Environment(folder)
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    kept = [word for one in sorted(KEPT_WHEELS.glob("llama-*")) for word in ("--find-links", str(one))]
    run([*_pip(environment.python), "install", "--constraint", str(pins), *(kept if extra == "llama" else ()), what])
    run([*_pip(environment.python), "check"])
    return environment


def overlay(folder: Path, wheel: Path, below: Path) -> Environment:
    """A fresh environment with the wheel alone, over the packages of an environment that exists."""
    run([sys.executable, "-m", "venv", str(folder)])
    environment = Environment(folder)
    run([*_pip(environment.python), "install", "--no-deps", str(wheel)])
    site = next((folder / "lib").glob("python3*/site-packages"))
    (site / "below.pth").write_text(f"{next((below / 'lib').glob('python3*/site-packages'))}\n")
    return environment


def pins(lock: Path, folder: Path) -> Path:
    """A lock as constraints: its versions without the hashes, which pip takes for every package or for none."""
    found = re.findall(r"^([A-Za-z0-9_.-]+==[^ \\\n]+)", lock.read_text(), re.MULTILINE)
    path = folder / f"{lock.stem}.txt"
    path.write_text("\n".join(found) + "\n")
    return path


def _pip(python: str) -> list[str]:
    return [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
