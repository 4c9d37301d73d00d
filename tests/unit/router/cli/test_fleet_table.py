"""The fleet as a table: whatever workers call themselves, it is shown and not interpreted."""

import io
from dataclasses import replace

from rich.console import Console

from router.cli.fleet import fleet_table
from router.domain.snapshot import WorkerView
from router.domain.worker import WorkerState
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


def shown(view: WorkerView, head: str = "0.2.0") -> str:
    out = io.StringIO()
    Console(file=out, width=250).print(fleet_table({**fleet_body(fleets.snapshot(view)), "allsorts": head}))
    return out.getvalue()


def test_a_worker_of_another_version_than_the_head_is_shown_with_both() -> None:
    """Older or newer; of the same, or where one does not tell, nothing is said."""
    view = fleets.worker("mac", fleets.instance("q8_0"))
    for version, head, said in (("0.1.0", "0.2.0", True), ("0.3.0", "0.2.0", True), ("0.2.0", "0.2.0", False),
                                ("", "0.2.0", False), ("0.2.0", "", False)):  # fmt: skip
        line = shown(replace(view, profile=replace(view.profile, version=version)), head)
        assert (f"ready (allsorts {version}, the head {head})" in line) is said, line
        assert "ready" in line


def test_why_a_worker_takes_no_work_is_shown() -> None:
    """In its own words."""
    view = fleets.worker("mac", fleets.instance("q8_0"))
    away = replace(view, state=WorkerState.DRAINING, away_reason="paused by its owner")
    assert "draining: paused by its owner" in shown(away)


def test_a_worker_that_speculates_says_what_a_round_yields() -> None:
    """Accepted tokens and the target's own one; nothing where nothing was ever proposed."""
    view = fleets.worker("mac", fleets.instance("q8_0"))
    quick = replace(view, load=replace(view.load, draft_rounds=40, draft_proposed=200, draft_accepted=100))
    assert "speculates: 3.5 tokens a round" in shown(quick)
    assert "speculates" not in shown(view)
