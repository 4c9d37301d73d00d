"""``allsorts pause``: this machine takes no work for now, as its owner says."""

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from workers.cli.alone import run_alone
from workers.joining.staying.uninstall import joined_fleets
from workers.serving.owner_pause import PauseFile

StateDir = Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")]


def pause(state_dir: StateDir = None) -> None:
    """Take no more work on this machine until `allsorts resume`; it stays in its fleets, also after a restart.

    Running requests get as long as a stop would give them (20 seconds, or the configuration's drain_s) and move to
    another worker after that. It holds for every worker with this state directory.

    Examples:
      allsorts pause

      allsorts pause --state-dir /srv/allsorts

    """
    base = state_of(state_dir)
    try:
        fresh = PauseFile(base).pause()
    except OSError as error:
        raise failed("pause", error) from None
    typer.echo("paused; `allsorts resume` ends it" if fresh else "paused before; `allsorts resume` ends it")
    say_who_hears(base, "takes nothing new; what runs finishes or moves")


def state_of(state_dir: Path | None) -> Path:
    """The folder that was named, or this user's."""
    return Path(state_dir or platformdirs.user_state_dir("allsorts"))


def say_who_hears(base: Path, does: str) -> None:
    """Joined workers by their locks; one started with `allsorts worker` holds none, and hears it all the same."""
    for files in joined_fleets(base):
        if files.holder() is not None:
            typer.echo(f"{files.folder.name}: {does}")


def failed(command: str, error: OSError) -> typer.Exit:
    """One clear line, and status 1."""
    where = f"{error.filename}: " if error.filename else ""
    typer.echo(f"allsorts {command}: {where}{error.strerror or error}; check who owns that folder", err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    run_alone(pause)
