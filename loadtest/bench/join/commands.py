"""Every command of an environment and its help. Runs inside that environment.

Prints a JSON object, command → its help. Needs the standard library and the installed wheel only.
"""

import contextlib
import io
import json
from typing import Any


def helps() -> dict[str, str]:
    """Command (or group and command) → its help."""
    import typer.main

    from router.cli.main import app

    root: Any = typer.main.get_command(app)
    found = {"": _help(root, [])}
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        found[name] = _help(root, [name])
        for inner in getattr(command, "commands", {}):
            found[f"{name} {inner}"] = _help(root, [name, inner])
    return found


def _help(root: Any, words: list[str]) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        root.main(args=[*words, "--help"], prog_name="allsorts")
    return output.getvalue()


if __name__ == "__main__":
    print(json.dumps(helps()))
