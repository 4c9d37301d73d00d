"""The fleet as a table: whatever workers call themselves, it is shown and not interpreted."""

import io

from rich.console import Console

from router.cli.fleet import fleet_table
from router.http.admin.fleet_view import fleet_body
from tests.support import fleets


def test_words_that_workers_chose_are_shown_as_they_are() -> None:
    """Brackets mean markup to the terminal library: a model called ``[/]`` once ended the command with a traceback."""
    odd = fleets.instance("q8_0", model="[/]", error="cannot open [/models/x.gguf]")
    body = fleet_body(fleets.snapshot(fleets.worker("[bold]mac[/bold]", odd)))
    out = io.StringIO()
    Console(file=out, width=200).print(fleet_table(body))
    for word in ("[bold]mac[/bold]", "[/]", "cannot open [/models/x.gguf]"):
        assert word in out.getvalue()
