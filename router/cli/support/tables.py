"""Tables that any terminal can show: one where it fits, else several narrow ones that repeat what names the rows.

Nothing is ever cut: what is wider than the terminal goes on in the next line.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from router.cli.support.terminal import Terminal

GAP = 2
"""Spaces between two columns."""

LEAST = 16
"""Left beside the keys for a column that must be folded; with less, the keys are folded too."""

PLAIN_WIDTH = 140
"""Columns where there is no terminal: a file, a pipe."""


class Row(NamedTuple):
    """Cells in rich's markup; the style is the row's."""

    cells: Sequence[str]
    style: str = ""


class Sheet:
    """A table for rich to print. The first ``keys`` columns name a row; ``right`` are columns of figures."""

    def __init__(
        self, headings: Sequence[str], rows: Sequence[Row], *, keys: int = 1, right: Sequence[str] = ()
    ) -> None:
        self._headings = headings
        self._rows = rows
        self._keys = keys
        self._right = frozenset(right)
        self._widths = [
            max(len(heading), *(_width(row.cells[i]) for row in rows), 0) for i, heading in enumerate(headings)
        ]

    def fits(self, width: int) -> bool:
        """One table will do."""
        return self._taken(range(len(self._headings))) <= width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many tables as it takes, with a line between two."""
        for number, columns in enumerate(self._split(options.max_width)):
            if number:
                yield ""
            yield self._table(columns, options.max_width)

    def _split(self, width: int) -> Iterator[list[int]]:
        """Columns of each table, in order; each begins with the keys."""
        keys = list(range(self._keys))
        columns = list(keys)
        for column in range(self._keys, len(self._headings)):
            if len(columns) > len(keys) and self._taken([*columns, column]) > width:
                yield columns
                columns = list(keys)
            columns.append(column)
        yield columns

    def _taken(self, columns: Sequence[int]) -> int:
        return sum(self._widths[column] for column in columns) + GAP * (len(columns) - 1)

    def _table(self, columns: Sequence[int], width: int) -> Table:
        roomy = self._taken(columns) <= width
        keys = self._taken(range(self._keys)) <= width - LEAST
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for column in columns:
            heading = self._headings[column]
            table.add_column(
                heading,
                justify="right" if heading in self._right else "left",
                no_wrap=roomy or (keys and column < self._keys),
                overflow="fold",
            )
        for row in self._rows:
            table.add_row(*(row.cells[column] for column in columns), style=row.style or None)
        return table


def wide_console() -> Console:
    """The terminal, or what COLUMNS says; where there is neither, wide enough for most tables."""
    console = Terminal()
    return console if console.is_terminal or os.environ.get("COLUMNS") else Terminal(width=PLAIN_WIDTH)


def _width(cell: str) -> int:
    return max((line.cell_len for line in Text.from_markup(cell).split("\n")), default=0)
