"""The results file: every row with the commit of which it tells."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.attack.rows import Row


def write_rows(out: Path, rows: Sequence[Row], *, commit: str, more: bool) -> None:
    """``more``: rows of earlier runs stay that this one has not run anew, so that a long run may go in pieces."""
    new = [{**row.as_json(), "commit": commit} for row in rows]
    named = {(one["attack"], one["router"]) for one in new}
    kept: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if more and out.exists() else []
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = [one for one in kept if (one["attack"], one["router"]) not in named]
    out.write_text(json.dumps({"commit": commit, "rows": [*kept, *new]}, indent=2) + "\n")


def commit_here() -> str:
    """Of the working tree, with a mark where it has changes; empty where there is none."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
