"""The terminal as the router's commands write to it: other people's words lose what a terminal would obey."""

from collections.abc import Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from protos.contract.printable import plain_text


class Terminal(Console):
    """rich's console. What is printed may come from a model or a worker; rich's own control codes are not text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Every piece of text as it may be shown."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain_text(text), style, control)


def say(line: str, *, err: bool = False) -> None:
    """A line without style."""
    typer.echo(plain_text(line), err=err)
