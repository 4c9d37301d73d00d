"""``allsorts replay``: every record ends in figures or in one clear line, whatever is in it and whatever is set."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from router.cli import explain as commands
from router.cli.support.decision_sources import read_records
from router.errors import ConfigError
from router.scheduling.explain.record import DecisionRecord
from router.scheduling.explain.replay import Change, replay
from router.scheduling.placement.candidates import RequestFacts
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policies import POLICIES
from tests.unit.router.cli.test_explain_command import explanation

app = typer.Typer()
app.command()(commands.explain)
app.command()(commands.replay)


def run(*arguments: str, code: int = 0, width: int = 400) -> str:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": str(width)})
    assert done.exit_code == code, done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    return done.output


def recorded(policy: str = "cost") -> dict[str, Any]:
    (record,) = explanation(policy=policy)["records"]
    found: dict[str, Any] = record
    return found


def written(tmp_path: Path, *records: dict[str, Any], name: str = "records.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records))
    return path


def no_candidates(record: dict[str, Any]) -> None:
    record["candidates"] = []


def unknown_policy(record: dict[str, Any]) -> None:
    record["policy"] = "zz"


def unknown_parameter(record: dict[str, Any]) -> None:
    record["parameters"]["zz"] = 1.0


def missing_value(record: dict[str, Any]) -> None:
    del record["candidates"][1]["values"]["running"]


def older_names(record: dict[str, Any]) -> None:
    for candidate in record["candidates"]:
        candidate["values"]["standing"] = candidate["values"].pop("in_engine")
        candidate["terms"]["broken"] = 0.0


def no_figures(record: dict[str, Any]) -> None:
    record["candidates"][0]["values"].update(base_s=None, running=None, prefill_token_s=None, prefill_pending=0)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_candidates, "r7#0: it has no candidates"),
        (unknown_policy, "r7#0: it cannot be computed again: unknown placement policy 'zz'"),
        (unknown_parameter, "does not take these parameters"),
        (missing_value, "r7#0: it lacks the value 'running'"),
        (older_names, "r7#0: it lacks the value 'in_engine', which this version computes with"),
        (no_figures, "r7#0: the cost of fast comes out as no number"),
    ],
)
def test_a_record_that_cannot_be_computed_is_one_line(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], says: str
) -> None:
    """It names the record and what is the matter with it."""
    record = copy.deepcopy(recorded())
    damage(record)
    text = run("replay", str(written(tmp_path, record)), code=1)
    assert says in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("policy", [name for name in POLICIES if recorded(name)["candidates"][0]["inputs"]])
def test_a_record_without_an_input_its_policy_needs_is_one_line(tmp_path: Path, policy: str) -> None:
    """Counters and draws are part of what was decided on."""
    record = copy.deepcopy(recorded(policy))
    for candidate in record["candidates"]:
        candidate["inputs"] = {}
    text = run("replay", str(written(tmp_path, record)), code=1)
    assert "it lacks the value" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("request.prompt_tokens=inf", "write a finite number of at least 0"),
        ("request.prompt_tokens=nan", "'nan' is not a number"),
        ("request.ttft_target_s=-1", "of at least 0, or inf for no limit"),
        ("fast.running=nan", "'nan' is not a number"),
        ("fast.running=inf", "write a finite number of at least 0"),
        ("fast.slots=0", "write a finite number of at least 1"),
        ("fast.base_s=-1", "write a finite number of at least 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path: Path, change: str, says: str) -> None:
    """With what it may be."""
    text = run("replay", str(written(tmp_path, recorded())), "--set", change, code=1)
    assert says in text
    assert text.count("\n") == 1


def test_what_was_set_shows_the_new_costs_beside_the_recorded_ones(tmp_path: Path) -> None:
    """Whose cost changed by how much, who was picked and who would be; in 80 columns too."""
    path = written(tmp_path, recorded())
    text = run("replay", str(path), "--set", "fast.base_s=0.5", width=80)
    assert text.splitlines()[0] == "r7#0: slow@q8_0 instead of fast@awq"
    assert "cost recorded  cost now  difference  picked" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines()[2:] if line}
    before = {one["node"]: one["cost"] for one in recorded()["candidates"]}
    assert float(rows["fast"][2]) == pytest.approx(before["fast"], rel=1e-3)
    assert float(rows["fast"][3]) - before["fast"] == pytest.approx(float(rows["fast"][4]), rel=1e-2)
    assert rows["fast"][5:] == ["recorded"]
    assert rows["slow"][2:] == [rows["slow"][2], rows["slow"][2], "+0", "now"]


def test_a_machine_can_be_left_out(tmp_path: Path) -> None:
    """As a floor or a label would; the last one cannot."""
    path = written(tmp_path, recorded())
    text = run("replay", str(path), "--without", "fast")
    assert text.splitlines()[0] == "r7#0: slow@q8_0 instead of fast@awq"
    assert "nobody is left" in run("replay", str(path), "--without", "fast", "--without", "slow", code=1)
    assert "has the candidates fast, slow" in run("replay", str(path), "--without", "nobody", code=1)


def test_the_files_of_all_replicas_are_read(tmp_path: Path) -> None:
    """And what they were before they turned over; a line that is still being written is left out."""
    for number, name in enumerate(("r.jsonl", "r.jsonl.1", "r.jsonl.rank1", "r.jsonl.rank1.1", "other.jsonl")):
        written(tmp_path, {**recorded(), "record_id": f"r{number}#0", "request_id": f"r{number}"}, name=name)
    with (tmp_path / "r.jsonl").open("ab") as file:
        file.write(b'{"record_id": "half')
    assert [one.request_id for one in read_records(tmp_path / "r.jsonl")] == ["r1", "r0", "r3", "r2"]
    assert run("replay", str(tmp_path / "r.jsonl"), "--request", "r3") == "r3#0: fast@awq, as recorded\n"


RECORD = msgspec.convert(recorded(), DecisionRecord)
FIELDS = [f"{node}.{column.name.lower()}" for node in ("fast", "slow") for column in Column]
FIELDS += [f"request.{name}" for name in RequestFacts._fields]


@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.floats() | st.sampled_from([0.0, 1.0, 1e300])), max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_set_ends_in_a_pick_or_in_one_line(given_changes: list[tuple[str, float]]) -> None:
    """Never in a cost that is no number, nor in a traceback."""
    try:
        again = replay(RECORD, [Change.parse(f"{name}={value!r}") for name, value in given_changes])
    except ConfigError as error:
        complaint = error.message
    else:
        complaint = ""
        assert again.scores.cost[again.index] == again.scores.cost.min()
    assert "\n" not in complaint
