"""``allsorts fit``: what it prints, and what it says to bad input."""

import json

import pytest
import typer
from typer.testing import CliRunner

from router.cli.fit import fit
from router.errors import ConfigError

app = typer.Typer()
app.command()(fit)


def run(*arguments: str) -> str:
    """Its output; the command must succeed."""
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def failed(*arguments: str) -> str:
    """The one line it ends in."""
    done = CliRunner().invoke(app, [*arguments])
    assert isinstance(done.exception, ConfigError), done.output
    assert "\n" not in done.exception.message
    return done.exception.message


def test_every_machine_gets_a_table_and_a_recommendation() -> None:
    """In the order they were asked for."""
    text = run("70B", "--on", "M4 Max 128GB", "--on", "2x RTX 4090")
    assert text.index("M4 Max 128GB: 107.5 GiB") < text.index("2x RTX 4090: 48.0 GiB")
    assert text.count("recommended: ") == 2
    assert "llama-3.3-70b (what 70B is taken to be)" in text


def test_json_says_the_same_in_figures() -> None:
    """The breakdown adds up; the recommendation is one of the options."""
    body = json.loads(run("8B", "--on", "RTX 4090", "--context", "4096", "--batch", "4", "--json"))
    assert body["plan"] == {"context_tokens": 4096, "batch": 4, "kv_format": "f16"}
    (machine,) = body["machines"]
    for one in machine["options"]:
        taken = sum(one[f"{part}_bytes"] for part in ("weights", "kv", "buffers", "overhead", "left"))
        assert taken == pytest.approx(one["usable_bytes"], abs=4)
        assert (one["tokens_per_s"] > 0) == (one["verdict"] in ("fits", "offloads"))
    assert machine["recommended"] in [{k: one[k] for k in ("format", "engine")} for one in machine["options"]]
    assert machine["reasons"]


def test_only_the_formats_asked_for_are_shown() -> None:
    """In any spelling."""
    body = json.loads(run("8B", "--on", "H100", "--format", "Q4-K-M, gptq-int4", "--json"))
    assert {one["format"] for one in body["machines"][0]["options"]} == {"q4_k_m", "gptq"}
    assert len(json.loads(run("8B", "--on", "H100", "--format", "all", "--json"))["machines"][0]["options"]) > 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("70B", "--on", "RTX 409"), "RTX 4090"),
        (("70B", "--on", "M4 Max"), "M4 Max 64GB"),
        (("lama-3", "--on", "H100"), "did you mean"),
        (("8B", "--on", "H100", "--format", "q4_m_k"), "q4_k_m"),
        (("8B", "--on", "H100", "--kv", "f8"), "f16, fp8"),
        (("8B", "--on", "H100", "--context", "-1"), "--context -1"),
        (("8B", "--on", "H100", "--context", "9999999"), "trained for 131072"),
        (("8B", "--on", "H100", "--batch", "0"), "--batch 0"),
        (("gone.gguf", "--on", "H100"), "gone.gguf"),
    ],
)
def test_bad_input_is_one_line_that_says_what_would_do(arguments: tuple[str, ...], says: str) -> None:
    """What was written, and near matches where there are any."""
    assert says in failed(*arguments)


def test_help_has_examples() -> None:
    """They stand in the command's own words."""
    assert fit.__doc__ is not None
    assert fit.__doc__.count("allsorts fit ") >= 3
