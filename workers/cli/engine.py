"""``allsorts engine``: what this machine can compute with, and llama.cpp built for it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protos.contract.joining.join_token import BadToken
from protos.contract.printable import plain_text
from workers.engines.table import ENGINES
from workers.errors import WorkerError
from workers.installing.llama_plan import Backend
from workers.installing.provide import llama_plan_here, provide_llama
from workers.joining.door import door_of
from workers.joining.home import Home
from workers.joining.view import BuildProgress

app = typer.Typer(help="Engines on this machine.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.callback()
def _group() -> None:
    """Engines on this machine: which are here, and llama.cpp built for its hardware."""


@app.command("list")
def show() -> None:
    """Show the engines, and how llama.cpp would be built here.

    Examples:
      allsorts engine list

    """
    for engine in ENGINES.values():
        state = "installed" if engine.installed() else f"not installed: {engine.installation}"
        typer.echo(plain_text(f"{engine.name:10} {engine.serves:60} {state}"))
    chosen, _ = llama_plan_here()
    typer.echo(plain_text(f"\n{chosen.about}: {' '.join(chosen.options)}"))
    for one in chosen.missing:
        typer.echo(plain_text(f"  missing: {one.what}: {one.command}"))
    for note in chosen.notes:
        typer.echo(plain_text(f"  {note}"))


@app.command()
def install(
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="llama.cpp")] = "llama.cpp",
    backend: Annotated[Backend | None, typer.Option(help="Compute there, whatever the hardware.")] = None,
    head: Annotated[str, typer.Option(metavar="HOST:PORT", help="Ask this head for a build of a machine alike.")] = "",
    token: Annotated[
        str,
        typer.Option(envvar="ALLSORTS_TOKEN", help="With --head, before the machine has joined.", show_default=False),
    ] = "",
    anew: Annotated[bool, typer.Option("--anew", help="Compile, even where a build is kept or offered.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
) -> None:
    """Put llama.cpp into this environment: kept from before, from the head, or compiled for this machine.

    Examples:
      allsorts engine install llama.cpp

      allsorts engine install llama.cpp --backend vulkan

      allsorts engine install llama.cpp --head head.local:8099

    """
    if name != "llama.cpp":
        engine = ENGINES.get(name)
        hint = engine.installation if engine else f"there are {', '.join(ENGINES)}"
        typer.echo(plain_text(f"allsorts engine install: only llama.cpp is built by this; {name}: {hint}"), err=True)
        raise typer.Exit(1)
    console = Console(stderr=True, highlight=False)
    home = Home.of(state_dir)
    try:
        home.prepare()
        with door_of(head, token, home.state) as door:
            folder = provide_llama(
                home.cache,
                say=lambda line: typer.echo(plain_text(f"· {line}"), err=True),
                progress=BuildProgress(console),
                wanted=backend,
                door=door,
                anew=anew,
            )
    except (WorkerError, BadToken, OSError) as error:
        typer.echo(plain_text(f"allsorts engine install: {error}"), err=True)
        raise typer.Exit(1) from None
    typer.echo(
        plain_text(f"· installed; to offer it to machines like this one, on the head: allsorts dist add {folder}"),
        err=True,
    )


if __name__ == "__main__":
    app()
