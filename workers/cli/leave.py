"""``allsorts leave``: this machine out of every fleet it joined, and everything that joining put on it away."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.alone import run_alone
from workers.installing.own_place import own_place, runs_from_own_place
from workers.installing.own_version import OwnVersions
from workers.joining.home import Home
from workers.joining.staying import service_units
from workers.joining.staying.uninstall import joined_fleets, stop_running, workers_alone
from workers.neighbours.place import left, meeting_place


def leave(
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
    keep_keys: Annotated[
        bool, typer.Option("--keep-keys", help="Keep the keys: joining again needs no token then.")
    ] = False,
) -> None:
    """Leave every fleet this machine joined, and take away everything that joining put here.

    Running requests get 20 seconds to finish and move to another worker after that. Then keys, logs, what was measured
    and what --install had written are removed; what you made yourself (models, say) stays and is named. A pause ends
    with it.

    Examples:
      allsorts leave

      allsorts leave --keep-keys

    """
    home = Home.of(state_dir)
    fleets = joined_fleets(home.state)
    try:
        removed = service_units.remove(service_units.unit([], Path("unused")))
        typer.echo("removed what --install had written" if removed else "nothing was installed to start by itself")
        stopped = [stop_running(files, say=typer.echo) for files in fleets]
        if not removed and not any(stopped):
            typer.echo("nothing serves here now")
        if alone := workers_alone(home.state):
            raise OSError(f"{alone} started with `allsorts worker` run from {home.state}; stop them, then leave again")
        paused = (home.state / "paused").exists()
        for what in home.clear(keep_keys=keep_keys):  # after the workers are gone: none opens its door for a moment
            typer.echo(f"removed: {what}")
        left(meeting_place())
        if paused:
            typer.echo("the pause is over too")
    except OSError as error:
        typer.echo(f"allsorts leave: {error}", err=True)
        raise typer.Exit(1) from None
    for path in home.owners():
        typer.echo(f"left, because it is yours: {path}")
    if keep_keys:
        return
    if runs_from_own_place():
        typer.echo(f"removed: this program, in {own_place()}")
        OwnVersions(own_place()).remove()
    else:
        typer.echo(f"left, as you put it there: this program, in {sys.prefix}")


if __name__ == "__main__":
    run_alone(leave)
