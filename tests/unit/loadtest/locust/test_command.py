"""``allsorts loadtest``: what is refused before anything is sent, and runs side by side."""

from pathlib import Path

import msgspec
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from loadtest.locust.cli import loadtest
from loadtest.locust.options import Options
from loadtest.locust.report.run import SAMPLES, keep
from tests.support.load_samples import facts, sample


def asked(*arguments: str) -> Result:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(loadtest)
    return CliRunner().invoke(app, [*arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://example.org"], "--allow-remote"),
        (["--url", "127.0.0.1:8000"], "no URL"),
        (["--workload", "everything"], "azure-like"),
        (["--shape", "square"], "steady, ramp"),
        (["--rate", "0"], "--rate"),
        (["--compare", "nowhere"], "a second side"),
        (["--compare", "nowhere", "--compare", "nor-here"], "holds no run"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    result = asked(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_every_setting_of_a_run_has_its_option() -> None:
    """But for those that are locust's own business: the sampling, and how much one process may have open."""
    parameters = {parameter.name for parameter in typer.main.get_command(_app()).params}
    fields = {name.removesuffix("_s") for name in Options.__struct_fields__}
    assert fields - parameters == {"temperature", "max_in_flight"}


def test_runs_are_put_side_by_side(tmp_path: Path) -> None:
    for name, ttft_s in (("a", 0.1), ("b", 0.4)):
        folder = tmp_path / name
        folder.mkdir()
        keep(facts(str(folder), label=name), folder)
        lines = [msgspec.json.encode(sample(float(at), ttft_s=ttft_s + at % 7 / 1000)) for at in range(60)]
        (folder / SAMPLES).write_bytes(b"\n".join(lines))
    sides = [flag for name in ("a", "b") for flag in ("--compare", str(tmp_path / name))]
    result = asked(*sides, "--out", str(tmp_path / "both"))
    assert result.exit_code == 0
    assert "worse" in next(line for line in result.output.splitlines() if line.startswith("TTFT p50"))
    assert str(tmp_path / "both" / "compare.html") in result.output


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(loadtest)
    return app
