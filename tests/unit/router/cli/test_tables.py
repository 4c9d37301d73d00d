"""Tables in narrow terminals: every name and figure is there, whole, whatever the width."""

import io

import pytest
from rich.console import Console

from router.cli.support.tables import Row, Sheet

HEADINGS = ("id", "name", *(f"figure{n}" for n in range(12)))
ROWS = [Row([f"key-{n:06d}", f"somebody-{n}", *(f"{n}{m}.25" for m in range(12))]) for n in range(3)]


def printed(sheet: Sheet, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(sheet)
    return out.getvalue().splitlines()


def test_what_fits_is_one_table() -> None:
    """A heading and its rows."""
    sheet = Sheet(HEADINGS, ROWS)
    assert sheet.fits(200)
    assert len(printed(sheet, 200)) == 1 + len(ROWS)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_what_does_not_fit_is_several_that_repeat_the_names(width: int) -> None:
    """Nothing is cut, no line is longer than the terminal, and every row says whose it is."""
    lines = printed(Sheet(HEADINGS, ROWS, keys=2, right=HEADINGS[2:]), width)
    text = "\n".join(lines)
    assert all(len(line) <= width for line in lines)
    assert "…" not in text
    words = text.split()
    assert all(cell in words for row in ROWS for cell in row.cells)
    assert all(heading in words for heading in HEADINGS)
    assert all(line.startswith(("key-", "id", " ")) or not line for line in lines)


def test_a_name_longer_than_the_terminal_goes_on_in_the_next_line() -> None:
    """Put together again it is what ``key delete`` needs."""
    name = "x" * 70 + "y" * 70
    lines = printed(Sheet(("id", "state"), [Row([name, "ready"])]), 40)
    assert "".join(line.split()[0] for line in lines if line.startswith(("x", "y"))) == name


def test_markup_takes_no_room() -> None:
    """Colours are not counted as letters."""
    assert Sheet(("id", "state"), [Row(["a", "[green]ok[/green]"])]).fits(9)
    assert not Sheet(("id", "state"), [Row(["a", "[green]ok[/green]"])]).fits(8)
