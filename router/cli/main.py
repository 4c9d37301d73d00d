"""``allsorts``: one command, its subcommands found through entry points, so that a Mac loads no router code."""

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

GROUP = "allsorts.commands"

_HELP = """One OpenAI-compatible endpoint over machines of all sorts.

Examples:

  allsorts up                          router and two local workers, ready to ask

  allsorts serve                       the router alone

  allsorts worker --router 127.0.0.1:8100 --model smollm2-135m=model.gguf

  allsorts fleet                       who is in the pool

  allsorts chat "What is the capital of France?"
"""


class LazyGroup(TyperGroup):
    """Loads a subcommand's module only when it is used (or its help is shown)."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        """All registered names."""
        return sorted(entry.name for entry in entry_points(group=GROUP))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002
        """The command, built from its entry point."""
        for entry in entry_points(group=GROUP):
            if entry.name == cmd_name:
                return _command(entry)
        return None


def _command(entry: EntryPoint) -> Any:
    try:
        target = entry.load()
    except ImportError as error:
        return _missing(entry.name, error)
    if isinstance(target, typer.Typer):
        group = typer.main.get_command(target)
        group.name = entry.name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name=entry.name)(target)
    return typer.main.get_command(app)


def _missing(name: str, error: ImportError) -> Any:
    """A command whose extra is not installed says so when it is used, and still shows in the list."""
    app = typer.Typer(add_completion=False)

    @app.command(name=name, help=f"(not available: {error.name or error} is not installed)")
    def unavailable() -> None:
        typer.echo(
            f"allsorts {name}: the package '{error.name or error}' is not installed here; "
            "install the extra that has it, for example: pip install 'allsorts[router]'",
            err=True,
        )
        raise typer.Exit(1)

    return typer.main.get_command(app)


app = typer.Typer(
    cls=LazyGroup,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """See ``_HELP``."""


_root.__doc__ = _HELP


def main() -> None:
    """Run the command line; errors raised on purpose are one line, without a traceback."""
    from protos.contract.printable import plain_text
    from router.errors import AllsortsError

    try:
        app()
    except AllsortsError as error:
        typer.echo(plain_text(f"allsorts: {error.message}"), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
