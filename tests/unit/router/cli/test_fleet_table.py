"""The fleet as a table: whatever workers call themselves, it is shown and not interpreted."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from router.cli.fleet import fleet_table
from router.domain.snapshot import WorkerView
from router.domain.worker import WorkerState
from router.http.admin.fleet_view import fleet_body
from router.speculation.notes import DraftNotes
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
    told = fleets.worker("mac", replace(fleets.instance("q8_0"), speculates="ngram"))
    assert "speculates by ngram: 3.5 tokens a round" in shown(replace(told, load=quick.load))
    off = fleets.worker("mac", replace(fleets.instance("q8_0"), speculates="off: this vLLM has no hook"))
    assert "(speculation off: this vLLM has no hook)" in shown(off)


def drafted(**changes: Any) -> WorkerView:
    facts = {"rounds": 40, "proposed": 120, "accepted": 60, "late": 2, "token_s": 0.004, "measured_gain": 1.61,
             "predicted_gain": 1.7, "wasted_s": 0.24}  # fmt: skip
    report = DraftReport(model="m", quantization="q8_0", draft_worker_id=WorkerId("mini"), **{**facts, **changes})
    return fleets.worker("mac", fleets.instance("q8_0"), drafting=(report,))


def test_a_target_says_how_it_gets_on_with_its_draft() -> None:
    """What a round yields, or why there is none."""
    for view, said in (
        (drafted(), "draft mini: 2.5 tokens a round, 60 of 120 accepted, 2 late, 0.2 s of it in vain, 1.61x of 1.70x"),
        (drafted(paused="late 3 times in a row"), "draft mini: paused, late 3 times in a row"),
        (drafted(rounds=0), "draft mini: not worth asking"),
        (drafted(rounds=0, token_s=0.0), "draft mini: not asked yet"),
    ):
        assert said in shown(view), shown(view)


def test_a_draft_says_for_whom_it_is_there_or_why_for_nobody() -> None:
    """And a target without a draft, where there are some, why it has none."""
    view = fleets.worker("mini")
    view = replace(
        view, models=(), drafts=(fleets.instance("q4_0", model="s"),),
        profile=replace(view.profile, draft_address="10.0.0.7:1"),
    )  # fmt: skip
    notes = DraftNotes(drafts_for={view.worker_id: (WorkerId("mac"),)})
    fleet = fleets.snapshot(view, fleets.worker("mac"))
    for told, said in (
        (notes, "(drafts for mac)"),
        (DraftNotes(reasons={view.worker_id: "[not] reached"}), "(drafts for nobody) ([not] reached)"),
        (DraftNotes(reasons={WorkerId("mac"): "no draft has its tokenizer"}), "(no draft: no draft has its tokenizer)"),
    ):
        out = io.StringIO()
        Console(file=out, width=250).print(fleet_table(fleet_body(fleet, told)))
        assert said in out.getvalue()
