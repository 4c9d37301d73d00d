"""``allsorts resume``: this machine takes work again, as its owner says."""

import typer

from workers.cli.alone import run_alone
from workers.cli.pause import StateDir, failed, say_who_hears, state_of
from workers.serving.owner_pause import PauseFile


def resume(state_dir: StateDir = None) -> None:
    """Take work on this machine again. What an operator drained stays drained.

    Examples:
      allsorts resume

    """
    base = state_of(state_dir)
    try:
        was = PauseFile(base).resume()
    except OSError as error:
        raise failed("resume", error) from None
    typer.echo("resumed" if was else "nothing was paused")
    if was:
        say_who_hears(base, "takes work again")


if __name__ == "__main__":
    run_alone(resume)
