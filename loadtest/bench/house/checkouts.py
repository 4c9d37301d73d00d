"""The two checkouts that are compared: each runs its own code, with this environment's Python and packages."""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BASE_COMMIT = "ab91261"
"""The last commit before one scheduler, one claim and one contract."""

_COMMAND = """import importlib, sys, typer
module, _, function = sys.argv.pop(1).partition(":")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(getattr(importlib.import_module(module), function))
app()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A state of the code. ``name``: ``base`` or ``new``."""

    name: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Its own packages before any that are installed."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def module(self, name: str, *arguments: str) -> list[str]:
        """The command that runs one of its modules, from wherever it is started."""
        return [sys.executable, "-P", "-m", name, *arguments]

    def command(self, name: str, *arguments: str) -> list[str]:
        """``allsorts NAME``, as this checkout and not the installed package knows it."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        target = project["entry-points"]["allsorts.commands"][name]
        return [sys.executable, "-P", "-c", _COMMAND, target, *arguments]

    def run(self, command: list[str], *, timeout_s: float) -> str:
        """What a command printed. Raises CalledProcessError where it fails, TimeoutExpired where it takes longer."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout_s,
            check=True,
        )
        return done.stdout

    def has(self, module: str) -> bool:
        """There is such a module in it."""
        path = self.folder / module.replace(".", "/")
        return path.with_suffix(".py").exists() or (path / "__init__.py").exists()

    @classmethod
    def here(cls) -> Self:
        """The one this process runs in."""
        return cls(name="new", folder=Path.cwd().resolve())

    @classmethod
    def base(cls, commit: str, folder: Path) -> Self:
        """The files of ``commit``, put into ``folder`` unless they are there."""
        folder = folder.resolve()
        stamp = folder.with_name(folder.name + ".commit")
        known = _git("rev-parse", f"{commit}^{{commit}}").strip()
        if not stamp.exists() or stamp.read_text(encoding="utf-8").strip() != known:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            archive = subprocess.run(["git", "archive", known], stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
            stamp.write_text(known + "\n", encoding="utf-8")
        return cls(name="base", folder=folder)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
