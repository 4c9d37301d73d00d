"""``allsorts simulate``: what cannot be simulated is refused with one line."""

import pytest
import typer
from typer.testing import CliRunner

from loadtest.simulate.cli import simulate


@pytest.mark.parametrize("rate", ["-1", "nan", "inf"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    """Requests a second are finite and not below zero."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(simulate)
    result = CliRunner().invoke(app, ["--fleet", "home_lab", "--rate", rate, "--requests", "20"])
    assert result.exit_code != 0
    assert "--rate" in result.output
