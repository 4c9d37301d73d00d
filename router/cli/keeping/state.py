"""``allsorts state``: copies of what the router keeps, and putting one back."""

from pathlib import Path
from typing import Annotated

import typer

from router.cli.support.terminal import say
from router.state.copies import back_up
from router.state.copies import restore as put_back

app = typer.Typer(
    help="Copies of the router's state: keys, tokens, machines, decisions, the pool's CA.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_StateDir = Annotated[str, typer.Option(help="The router's state: a folder, or redis://HOST:PORT/NUMBER.")]
_File = Annotated[Path, typer.Argument(help="The copy.")]


@app.command()
def backup(
    file: _File,
    state_dir: _StateDir = "",
    replace: Annotated[bool, typer.Option("--replace", help="Where the file is there already.")] = False,
) -> None:
    """Copy the state while routers run. The copy is readable by its owner alone: it holds the CA's private key.

    Examples:
      allsorts state backup pool-2026-12-01.sqlite

      allsorts state backup copy.sqlite --state-dir redis://10.0.0.5:6379/0

    """
    copied = back_up(state_dir, file, replace=replace)
    say(f"{file}: {copied}; keep it secret, whoever has it can let machines in")


@app.command()
def restore(
    file: _File,
    state_dir: _StateDir = "",
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a state that is there.")] = False,
) -> None:
    """Put a copy back, into a folder or into Redis. Stop the routers first, and start them afterwards.

    Examples:
      allsorts state restore pool-2026-12-01.sqlite --state-dir /srv/allsorts

      allsorts state restore copy.sqlite --state-dir redis://10.0.0.5:6379/0 --replace

    """
    copied = put_back(state_dir, file, replace=replace)
    say(f"put back: {copied}; start the router, and its machines come back by themselves")
