"""``allsorts models``: what it asks the router, what it shows, and what it does on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.cli.keeping import models
from router.cli.support.fetches import fetch_line
from router.errors import ConfigError
from workers.cli.models import here
from workers.cli.models import remove as remove_here

ROW = {
    "model": "m",
    "quantization": "q8_0",
    "format": "gguf",
    "content": "ab" * 32,
    "size_bytes": 150_000_000,
    "files": 1,
}
TOLD = {"model": "m", "quantization": "q8_0", "content": "ab" * 32}


class Router:
    """Answers GET /admin/models with ``shown``, one after the other, the last for ever."""

    def __init__(self, *shown: dict[str, Any]) -> None:
        self.shown = list(shown)
        self.posted: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if method == "POST":
            self.posted.append((path, body or {}))
            return {"node": (body or {})["node"], **TOLD}
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]


def shown(*held_by: str, fetches: Any = ()) -> dict[str, Any]:
    return {"models": [{**ROW, "held_by": list(held_by), "loaded_by": ["a"]}], "fetches": list(fetches)}


def fetching(done: int, error: str = "") -> dict[str, Any]:
    return {"node": "b", **TOLD, "done_bytes": done, "total_bytes": 150_000_000, "source": "pool", "error": error}


def run(monkeypatch: pytest.MonkeyPatch, router: Router, *arguments: str) -> Any:
    monkeypatch.setattr(models, "AdminClient", lambda *_: router)
    monkeypatch.setattr(models, "LOOK_EVERY_S", 0.0)
    return CliRunner().invoke(models.app, list(arguments))


def test_the_list_says_where_files_lie_and_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """In columns, and a line for each fetch."""
    said = run(monkeypatch, Router(shown("a", "head", fetches=[fetching(75_000_000)]))).output
    assert all(one in said for one in ("m", "q8_0", "150.0", "abababababab", "a, head"))
    assert "b: m@q8_0: fetching 50% of 150 MB from pool" in said


def test_pull_says_how_far_it_is_and_ends_when_the_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each change."""
    router = Router(shown("a"), shown("a", fetches=[fetching(15_000_000)]), shown("a", "b"))
    done = run(monkeypatch, router, "pull", "m@q8_0", "--on", "b")
    assert done.exit_code == 0, done.output
    assert router.posted == [("/admin/models/pull", {"node": "b", "model": "m", "quantization": "q8_0"})]
    assert "fetching 10% of 150 MB" in done.output
    assert "m@q8_0 is on b" in done.output


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("m", {"model": "m"}),
        ("abababab", {"content": "abababab"}),
        ("https://x/y.gguf", {"model": "", "sources": ["https://x/y.gguf"]}),
        ("hf:o/r/f.gguf", {"model": "", "sources": ["hf:o/r/f.gguf"]}),
    ],
)
def test_what_is_pulled_may_be_named_in_many_ways(monkeypatch: pytest.MonkeyPatch, text: str, body: Any) -> None:
    """A name, a hash, an address."""
    router = Router(shown("a", "b"))
    run(monkeypatch, router, "pull", text, "--on", "b", "--detach")
    assert router.posted == [("/admin/models/pull", {"node": "b", **body})]


def test_a_fetch_that_fails_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own."""
    failed = run(monkeypatch, Router(shown("a", fetches=[fetching(0, "no room")])), "pull", "m", "--on", "b")
    assert isinstance(failed.exception, ConfigError)
    assert failed.exception.message == "b: no room"


def test_remove_waits_for_the_machine_and_passes_its_refusal_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the last word."""
    gone = run(monkeypatch, Router(shown("a", "b"), shown("a")), "remove", "m", "--on", "b")
    assert "m@q8_0 is gone from b" in gone.output
    refused = run(
        monkeypatch, Router(shown("b", fetches=[fetching(0, "not removed: it is loaded")])), "remove", "m", "--on", "b"
    )
    assert "not removed: it is loaded" in str(refused.exception)


def test_without_a_machine_a_name_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL would do."""
    asked = run(monkeypatch, Router(shown()), "pull", "m")
    assert "name the machine that is to have it with --on NODE" in str(asked.exception)


def test_a_fetch_of_unknown_size_has_no_share() -> None:
    """Only what has come."""
    assert fetch_line({**fetching(3_000_000), "total_bytes": 0}) == "b: m@q8_0: fetching, 3 MB from pool"


def test_models_of_this_machine_are_listed_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their hashes; one of several names is asked for again."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("m-q8_0.gguf", "m-q4_k_m.gguf"):
        (folder / name).write_text(name)
    here(str(folder))
    assert "m@q8_0" in capsys.readouterr().out
    with pytest.raises(BaseException):  # noqa: B017 - typer's own, which is no Exception's business
        remove_here("m", str(folder))
    assert "m is several models here" in capsys.readouterr().err
    remove_here("m@q8_0", str(folder))
    assert [one.name for one in folder.iterdir()] == ["m-q4_k_m.gguf"]
