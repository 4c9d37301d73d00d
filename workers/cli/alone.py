"""A command by itself, as ``python -m workers.cli.…``: for service managers, and where no script was installed."""

from collections.abc import Callable

import typer


def run_alone(command: Callable[..., None]) -> None:
    """Run one command with this process's arguments."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    app()
