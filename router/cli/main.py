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
        return _missing(entry, error)
    if isinstance(target, typer.Typer):
        group = typer.main.get_command(target)
        group.name = entry.name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name=entry.name)(target)
    return typer.main.get_command(app)


def _missing(entry: EntryPoint, error: ImportError) -> Any:
    """A command whose extra is not installed says so when it is used, whatever its arguments, and shows in the list."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    extra = entry.module.partition(".")[0]  # router and loadtest are extras of their own names
    lacks = f"needs the extra '{extra}', which is not installed here ({error.name or error} is missing)"
    any_arguments = {"ignore_unknown_options": True, "allow_extra_args": True}

    @app.command(name=entry.name, help=f"Not available: {lacks}.", context_settings=any_arguments)
    def unavailable() -> None:
        typer.echo(f"allsorts {entry.name}: {lacks}; install it with: pip install 'allsorts[{extra}]'", err=True)
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
