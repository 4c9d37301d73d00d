"""The place of its own that the pasted line installs into: ``~/.allsorts``, or ``$ALLSORTS_HOME``."""

import os
import sys
from pathlib import Path


def own_place() -> Path:
    """Whether it is there or not."""
    return Path(os.environ.get("ALLSORTS_HOME") or "~/.allsorts").expanduser()


def runs_from_own_place() -> bool:
    """Whether this very process does: then its environment is this program's to change."""
    return Path(sys.prefix).resolve().is_relative_to(own_place().resolve() / "versions")


def own_command(module: str, *words: str) -> list[str]:
    """How to run a command again later: by the link to the version that is in use then, or with this very Python."""
    command = own_place() / "bin" / "allsorts"
    if runs_from_own_place() and command.exists():
        return [str(command), *words]
    return [sys.executable, "-m", module]
