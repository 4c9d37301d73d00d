"""``allsorts leave``: this machine out of every fleet it joined."""

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from workers.cli.alone import run_alone
from workers.joining import service_units
from workers.joining.uninstall import joined_fleets, stop_running
from workers.serving.owner_pause import PauseFile


def leave(
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Also delete the keys: joining again needs a token.")
    ] = False,
) -> None:
    """Leave every fleet this machine joined: what serves now is stopped in good order, and nothing comes back.

    Running requests get 20 seconds to finish and move to another worker after that. Keys stay, so that joining again
    needs no token, unless --forget is given. A pause ends with it.

    Examples:
      allsorts leave

      allsorts leave --forget

    """
    base = Path(state_dir or platformdirs.user_state_dir("allsorts"))
    fleets = joined_fleets(base)
    try:
        removed = service_units.remove(service_units.unit([], Path("unused")))
        typer.echo("removed what --install had written" if removed else "nothing was installed to start by itself")
        stopped = [stop_running(files, say=typer.echo) for files in fleets]
        if not removed and not any(stopped):
            typer.echo("nothing serves here now")
        if PauseFile(base).resume():  # after the workers are gone: none opens its door for a moment
            typer.echo("the pause is over too")
    except OSError as error:
        typer.echo(f"allsorts leave: {error}", err=True)
        raise typer.Exit(1) from None
    for files in fleets if forget else ():
        files.forget()
        typer.echo(f"forgot {files.folder.name}")


if __name__ == "__main__":
    run_alone(leave)
