"""``allsorts simulate --draft``: a draft stands beside its target or elsewhere, and the advice follows the figures."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loadtest.simulate.cases import Case, run_at
from loadtest.simulate.cli import simulate
from loadtest.simulate.drafts.compare import Stand, advice
from loadtest.simulate.drafts.stand import STANDS, drafted, yields
from loadtest.simulate.fleet import read_fleet
from router.errors import ConfigError

HOME = "deploy/fleets/draft_home_lab.toml"
RACK = "deploy/fleets/draft_h100_4090.toml"
OFF = "deploy/fleets/draft_stays_off.toml"


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(simulate)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_beside_its_target_a_draft_takes_room_and_no_round_trip() -> None:
    """Elsewhere it takes none, waits for the network, and computes at its own machine's pace."""
    fleet = read_fleet(HOME)
    (plain,), (beside,), (apart,) = (drafted(fleet, one, "azure-like").nodes for one in ("", *STANDS))
    assert plain.declared.drafting is None
    near, far = beside.declared.drafting, apart.declared.drafting
    assert near is not None
    assert far is not None
    assert beside.declared.kv_capacity_tokens < plain.declared.kv_capacity_tokens == apart.declared.kv_capacity_tokens
    assert (near.rtt_s, far.rtt_s) == (0.0, 0.003)
    assert far.base_s > near.base_s


@pytest.mark.parametrize(("path", "pays"), [(HOME, True), (RACK, True), (OFF, False)])
@pytest.mark.parametrize("stand", STANDS)
def test_the_examples_that_ship(path: str, pays: bool, stand: str) -> None:
    """Alone, a sequence goes faster with the draft; in the third fleet it stays off wherever it stands."""
    node = drafted(read_fleet(path), stand, "azure-like").nodes[0]
    length, gain = yields(node.declared, 1, 1000)
    assert (length > 0, gain > 1.0) == (pays, pays)
    assert gain >= 1.0


@pytest.mark.parametrize("stand", STANDS)
def test_code_is_drafted_further_than_conversation(stand: str) -> None:
    """Acceptance goes by the kind of text."""
    fleet = read_fleet(RACK)
    talk, code = (
        yields(drafted(fleet, stand, text).nodes[0].declared, 1, 1000) for text in ("azure-like", "code-like")
    )
    assert code[0] > talk[0]
    assert code[1] > talk[1]


@pytest.mark.holds_claims
def test_a_fleet_answers_faster_with_a_draft() -> None:
    """The same requests, played with and without."""
    tpot = [
        run_at(Case(fleet=RACK, traffic="azure-like", policy="cost", requests=40, draft=stand), 0.1).tpot_s["p50"]
        for stand in ("", *STANDS)
    ]
    assert max(tpot[1:]) < 0.9 * tpot[0]


def stands(*figures: tuple[float, float]) -> list[Stand]:
    return [
        Stand(stand=stand, goodput=goodput, rate=0.1, tpot_p50_s=tpot_s, tpot_p95_s=tpot_s, busy=0.5)
        for stand, (goodput, tpot_s) in zip(("", *STANDS), figures, strict=True)
    ]


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ([(1.0, 0.05), (1.2, 0.04), (1.5, 0.03)], "remote (+50% goodput"),
        ([(1.0, 0.05), (1.01, 0.03), (1.02, 0.04)], "local (TPOT p50 -40%"),
        ([(1.0, 0.05), (0.8, 0.03), (1.0, 0.05)], "does not pay"),
        ([(1.0, 0.05), (1.01, 0.0495), (1.0, 0.05)], "does not pay"),
        ([(0.0, 0.11), (0.2, 0.08), (0.0, 0.1)], "local (it keeps the targets"),
        ([(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)], "does not pay"),
    ],
)
def test_the_advice_follows_goodput_then_speed(figures: list[tuple[float, float]], says: str) -> None:
    """A place that serves fewer is never advised for its speed."""
    assert says in advice(stands(*figures))


def test_the_command_compares_and_advises(tmp_path: Path) -> None:
    """One row for each place, and the figures as JSON."""
    code, shown = run("--fleet", RACK, "--draft", "all", "--rate", "0.2", "--requests", "20", "--processes", "1",
                      "--json", str(tmp_path / "out.json"))  # fmt: skip
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines()[3:6]] == ["none", "local", "remote"]
    assert "a draft " in shown
    assert '"stand": "remote"' in (tmp_path / "out.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--fleet", "deploy/fleets/home_lab.toml", "--draft", "all"), "has no [[draft]]"),
     (("--fleet", RACK, "--draft", "nearby"), "choose none, all, local, remote")],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(arguments: tuple[str, ...], told: str) -> None:
    """It names what to do."""
    code, shown = run(*arguments)
    assert code == 1
    assert told in shown


@pytest.mark.parametrize(
    ("line", "told"),
    [("acceptance = 1.0", "must be below 1"), ('target = "qwen3-8b"', "served by no worker"), ("k = 3", "not a field")],
)
def test_a_draft_that_cannot_be_is_named(tmp_path: Path, line: str, told: str) -> None:
    """File, line and field."""
    name = line.split(" ")[0]
    text = Path(RACK).read_text(encoding="utf-8")
    kept = [one for one in text.splitlines() if not one.startswith(name)]
    at = kept.index("[[draft]]") + 1
    path = tmp_path / "fleet.toml"
    path.write_text("\n".join([*kept[:at], line, *kept[at:]]), encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        read_fleet(path)
