"""``allsorts explain`` and ``allsorts replay``: every term is shown, a record comes out as it was, one input changed
shows the new pick, and damaged records end in one line.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import typer
from typer.testing import CliRunner

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import Load
from router.cli import explain as commands
from router.domain.placement import Ending, Outcome, Placed
from router.domain.snapshot import FleetSnapshot
from router.http.admin.fleet_view import drafts_body
from router.scheduling.explain.record import MAX_REASONS_PER_RECORD
from router.scheduling.placement.cost import TERMS
from router.scheduling.placement.factory import build_placer
from tests.support.curves import H100_70B, curve
from tests.support.fleets import SPEED, TARGETS, faster, instance, request, snapshot, worker

app = typer.Typer()
app.command()(commands.explain)
app.command()(commands.replay)

FLEET = snapshot(
    worker("fast", instance("awq", speed=faster(SPEED, 4.0)), load=Load(running=2, context_tokens=2000)),
    worker("slow", instance("q8_0")),
    worker("small", instance("q8_0", context_tokens=256)),
)


def run(*arguments: str, code: int = 0) -> str:
    """What it prints, tables on one line per row."""
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "400"})
    assert done.exit_code == code, done.output
    return done.output


def explanation(fleet: FleetSnapshot = FLEET, policy: str = "cost") -> dict[str, Any]:
    """What ``/admin/explain`` answers for one request that was placed and served."""
    placer = build_placer(policy, rng=random.Random(1))
    asked = request(7, slo=TARGETS, expected_output_tokens=100)
    placed = placer.place(asked, fleet, 0.0)
    assert isinstance(placed, Placed)
    outcome = Outcome(ttft_s=0.5, e2e_s=2.0, prompt_tokens=1000, completion_tokens=90)
    placer.finished(placer.dispatched(asked, placed, 0.0), outcome, 2.0)
    found = placer.explain("r7")
    assert found is not None
    return found


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A file as ``explain --json`` writes it."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(one) for one in explanation()["records"]) + b"\n")
    return path


def served(monkeypatch: pytest.MonkeyPatch, status: int = 200, body: Any = None) -> None:
    """A router that answers so."""

    def get(url: str, **_: Any) -> httpx.Response:
        return httpx.Response(status, content=msgspec.json.encode(body), request=httpx.Request("GET", url))

    monkeypatch.setattr(commands.httpx, "get", get)


def test_explain_shows_candidates_exclusions_terms_margin_prediction_and_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that the decision saw and what came of it."""
    served(monkeypatch, body=explanation())
    text = run("explain", "r7")
    for expected in (
        *(term for term in TERMS[:-1] if term != "price"),
        "ttft",
        "tpot",
        "picked fast",
        "cheaper than the next",
        "expected first token",
    ):
        assert expected in text
    assert "excluded small@q8_0: needs about 1001 tokens, its context takes 256" in text
    assert "ended with stop after 2.000 s: first token 0.500 s, 90 tokens out" in text


def test_explain_counts_the_exclusions_that_a_record_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that load excluded, some are told one by one, the others by kind."""
    full = Load(running=8, context_tokens=65_500)
    crowd = [worker(f"w{number}", instance("q8_0"), load=full) for number in range(100)]
    served(monkeypatch, body=explanation(snapshot(*crowd, *FLEET.workers)))
    text = run("explain", "r7")
    assert text.count("excluded w") == MAX_REASONS_PER_RECORD
    left = 100 - MAX_REASONS_PER_RECORD
    assert f"excluded besides: 1 with too short a context, {left} without room in their KV cache" in text


def test_explain_shows_a_choice_that_did_not_hold_at_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition it was sent with, and that the request was placed again."""
    placer = build_placer("cost", rng=random.Random(1), replicas=2)
    asked = request(7, slo=TARGETS, expected_output_tokens=100)
    placed = placer.place(asked, FLEET, 0.0)
    assert isinstance(placed, Placed)
    placer.finished(placer.dispatched(asked, placed, 0.0), Outcome(e2e_s=0.004, ending=Ending.CONFLICT), 0.1)
    served(monkeypatch, body=placer.explain("r7"))
    text = run("explain", "r7")
    assert f"on condition that at most {placed.max_queued_prefill_tokens} prompt tokens wait there" in text
    assert "more waited there: refused after 0.004 s, and placed again" in text


def test_explain_shows_the_measured_curves_that_the_choice_was_priced_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the worker picked; one with straight lines has none to show."""
    curved = replace(faster(SPEED, 4.0), decode_curve=H100_70B, prefill_curve=curve((128, 0.136), (512, 0.42)))
    bent = snapshot(
        worker("bent", instance(speed=replace(curved, per_sequence_s=0.0))),
        worker("slow", instance(speed=faster(SPEED, 0.1))),
    )
    served(monkeypatch, body=explanation(bent))
    shown = run("explain", "r7")
    assert "there a step takes 23.8 ms for 1, 25.2 for 2, 36.2 for 4, 58.2 for 8, 45.8 for 16" in shown
    assert "there a prompt takes 136 ms for 128, 420 for 512 (measured" in shown
    served(monkeypatch, body=explanation())
    assert "measured" not in run("explain", "r7")


def test_explain_of_a_request_without_a_record_says_why_there_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled, aged out, or another replica's."""
    served(monkeypatch, 404, {})
    assert "it was not sampled, has aged out" in run("explain", "r9", code=1)


def test_what_explain_prints_as_json_is_what_replay_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And it comes out as recorded."""
    served(monkeypatch, body=explanation())
    path = tmp_path / "saved.jsonl"
    path.write_text(run("explain", "r7", "--json"), encoding="utf-8")
    assert run("replay", str(path)) == "r7#0: fast@awq, as recorded\n"


def test_replay_reads_what_the_router_answers_too(tmp_path: Path) -> None:
    """An explanation as it came, one a line."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(msgspec.json.encode(explanation()))
    assert "as recorded" in run("replay", str(path))


@pytest.mark.parametrize(
    ("change", "pick"),
    [
        ("fast.running=0", "fast@awq, as recorded"),
        ("fast.prefill_pending=200000", "slow@q8_0 instead of fast@awq"),
        ("fast.base_s=0.5", "slow@q8_0 instead of fast@awq"),
        ("slow.cached_tokens=990", "fast@awq, as recorded"),
        ("request.prompt_tokens=10", "fast@awq, as recorded"),
    ],
)
def test_one_input_changed_shows_the_new_pick(records: Path, change: str, pick: str) -> None:
    """A decision is a function of its record."""
    assert run("replay", str(records), "--set", change).splitlines()[0] == f"r7#0: {pick}"


def test_a_record_that_was_tampered_with_does_not_hold(records: Path) -> None:
    """The terms that differ are named, and the command fails."""
    record = msgspec.json.decode(records.read_bytes())
    record["candidates"][0]["terms"]["decode"] += 1.0
    records.write_bytes(msgspec.json.encode(record))
    assert "r7#0 fast: decode was" in run("replay", str(records), code=1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("fast.running", "write it as worker.field=value"),
        ("fast.running=many", "'many' is not a number"),
        ("nobody.running=1", "has the candidates fast, slow"),
        ("fast.mood=1", "no such field; there are base_s,"),
        ("request.mood=1", "no such field; there are now,"),
    ],
)
def test_a_change_that_names_nothing_is_one_clear_line(records: Path, change: str, complaint: str) -> None:
    """With what may be named."""
    text = run("replay", str(records), "--set", change, code=1)
    assert text.count("\n") == 1
    assert f"--set {change.partition('=')[0]}" in text
    assert complaint in text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "line 2: "),
        (b"[]", "line 2: "),
        (b'{"record_id": 7}', "record_id"),
        (b"\xff\xfe", "line 2: "),
    ],
)
def test_a_damaged_record_is_named_by_file_line_and_field(records: Path, line: bytes, complaint: str) -> None:
    """One line, whatever the damage."""
    records.write_bytes(records.read_bytes() + line + b"\n")
    text = run("replay", str(records), code=1)
    assert text.count("\n") == 1
    assert f"{records}, line 2: " in text
    assert complaint in text


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to check."""
    assert "cannot be read" in run("replay", str(tmp_path / "none.jsonl"), code=1)


def test_how_a_candidate_gets_on_with_its_draft_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of candidates alone; records are printed without."""
    report = DraftReport(
        model="m", quantization="q8_0", draft_worker_id=WorkerId("mini"), rounds=10, proposed=30, accepted=15,
        measured_gain=1.4, predicted_gain=1.5,
    )  # fmt: skip
    fleet = snapshot(worker("slow", instance("q8_0"), drafting=(report,)), worker("elsewhere", drafting=(report,)))
    served(monkeypatch, body={**explanation(), "drafts": drafts_body(fleet)})
    shown = run("explain", "r7")
    assert "slow@q8_0 asks mini for drafts: 2.5 tokens a round, 15 of 30 accepted" in shown
    assert "elsewhere" not in shown
