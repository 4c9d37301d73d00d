"""What ``allsorts simulate`` compares, and what it says when there is nothing to compare."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loadtest.simulate.cases import Case, Outcome, notes_on
from loadtest.simulate.cli import simulate, why_nothing
from loadtest.simulate.metrics import Figures
from loadtest.simulate.search import Knee, find_knee

FLEET = "deploy/fleets/home_lab.toml"
app = typer.Typer()
app.command()(simulate)


def trace(folder: Path, prompt: int, output: int) -> str:
    """Mooncake's form: forty requests, one every half second."""
    lines = [
        {"timestamp": 500 * n, "input_length": prompt, "output_length": output,
         "hash_ids": list(range(100 * n, 100 * n + prompt // 512 + 1))}
        for n in range(40)
    ]  # fmt: skip
    path = folder / f"{prompt}-{output}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def run(*arguments: str) -> str:
    shown = CliRunner().invoke(app, [*arguments, "--fleet", FLEET, "--requests", "20", "--processes", "1"])
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["--policy", "cost", "--policy", "round_robin"], ["cost", "round_robin"]),
        (["--policy", "cost,random", "--policy", "cost"], ["cost", "random"]),
        (["--policy", "random"], ["random"]),
    ],
)
@pytest.mark.holds_claims  # a simulation ends with its last arrival's fate, whoever still runs
def test_every_policy_that_was_asked_for_is_shown(asked: list[str], names: list[str]) -> None:
    """However they were listed, each once."""
    out = run("--rate", "0.2", *asked)
    table = re.split(r"^policy +goodput.*$", out, flags=re.MULTILINE)[1].partition("\n\n")[0]
    assert sorted(line.split()[0] for line in table.splitlines() if line.strip()) == sorted(names)


def test_a_policy_that_is_none_is_named() -> None:
    """One line, before anything is simulated."""
    shown = CliRunner().invoke(app, ["--fleet", FLEET, "--policy", "cost", "--policy", "best"])
    assert shown.exit_code == 1
    assert "there is no policy 'best'" in shown.output


def test_prompts_that_no_context_holds_are_told(tmp_path: Path) -> None:
    """How many, how long, and the longest context there is; also that prompts were cut."""
    case = Case(fleet=FLEET, traffic=trace(tmp_path, 20_000, 9_000), policy="cost", requests=20)
    cut, lost = notes_on(case)
    assert cut == "40 prompts of the trace are cut to 12000 tokens"
    assert lost.startswith("20 of 20 requests fit no worker's context with their answers (up to 21000 tokens")
    assert "16384" in lost
    short = Case(fleet=FLEET, traffic=trace(tmp_path, 300, 100), policy="cost", requests=20)
    assert notes_on(short) == ()
    assert notes_on(Case(fleet=FLEET, traffic="azure-like", policy="cost", requests=20)) == ()


def figures(within: float, shed: dict[str, int]) -> Figures:
    times = {"p50": 2.0, "p95": 3.0, "p99": 4.0}
    return Figures(
        offered=1.5,
        goodput=1.5 * within,
        within=within,
        requests=100,
        shed=shed,
        ttft_s=times,
        tpot_s=times,
        prefix_hit=0.0,
        utilisation={},
        fairness=1.0,
        quality_floor_broken=0,
        preemptions=0,
    )


def outcome(knee: Knee | None, at: Figures | None) -> Outcome:
    return Outcome(
        case=Case(fleet=FLEET, traffic="azure-like", policy="cost"), knee=knee, figures=at, bound=1.0,
        quality_floor_broken=0,
    )  # fmt: skip


def test_a_row_of_zeros_says_why() -> None:
    """By what became of the requests at the lowest load that was tried."""
    knee = find_knee(lambda _rate: figures(0.2, {"too_long": 60, "overloaded": 10}), 1.0)
    why = why_nothing(outcome(knee, knee.figures))
    assert "refused 70% (60% too_long, 10% overloaded)" in why
    assert "20% inside the targets; those served had TTFT p50 2.00 s" in why
    all_gone = why_nothing(outcome(None, figures(0.0, {"too_long": 100})))
    assert all_gone.endswith("refused 100% (100% too_long)")


def test_a_load_that_holds_needs_no_reason() -> None:
    """Nothing is added to a table that speaks for itself."""
    knee = find_knee(lambda rate: figures(1.0 if rate < 3 else 0.5, {}), 1.0)
    assert why_nothing(outcome(knee, knee.figures)) == ""
    assert why_nothing(outcome(None, figures(0.9, {"overloaded": 1}))) == ""
