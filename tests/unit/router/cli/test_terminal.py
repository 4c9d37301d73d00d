"""Whatever a model, a worker or a router sends, the operator's terminal obeys none of it."""

import io
import re
from typing import Any

import httpx
import msgspec
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from protos.contract.printable import one_line, plain_text, printable_event
from protos.contract.worker import Hardware
from router.cli import chat
from router.cli.fleet import fleet_table
from router.cli.support.tables import Row, Sheet
from router.cli.support.terminal import Terminal, say
from router.http.admin.fleet_view import fleet_body
from tests.support import fleets
from workers.doctor.checks import Finding
from workers.doctor.report import _show
from workers.joining.view import JoinView

EVIL = (
    "\x1b]0;owned\x07",  # window title
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # fill the clipboard
    "\x9b31m",  # colour, by the one-character introducer
    "\x90q\x9c",  # device control string
    "ok\rrm -rf",  # write over the line
    "\u202egnp.exe",  # turn the direction of writing
    "\x08\x08\x08",
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
WORDS = st.text(st.characters(codec="utf-8"), max_size=80) | st.sampled_from(EVIL)


def shown(*what: Any) -> str:
    """What a plain terminal gets, without rich's own colours."""
    out = io.StringIO()
    Terminal(file=out, width=60).print(*what)
    return out.getvalue()


@given(words=WORDS)
def test_no_text_is_obeyed_however_it_is_printed(words: str) -> None:
    """As a line, in a table, as rich's own text."""
    table = Sheet(("node", "why"), [Row([Text(words).markup, Text(words).markup])])
    for what in (Text(words), table):
        assert not OBEYED.search(shown(what))
    assert not OBEYED.search(plain_text(words))
    assert not OBEYED.search(one_line(words))
    assert "\n" not in one_line(words)


@given(words=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), max_size=80))
def test_honest_text_stays_as_it_is(words: str) -> None:
    """Letters of every script, line ends and tabs."""
    assert plain_text(f"{words}\n\t{words}") == f"{words}\n\t{words}"


@pytest.mark.parametrize("evil", EVIL)
def test_an_answer_cannot_speak_to_the_terminal(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Text of the model, names in the headers and the router's errors."""
    event = msgspec.json.encode({"choices": [{"delta": {"content": f"Paris{evil}"}}]})
    header = {"x-allsorts-worker": evil.encode("utf-8"), "x-request-id": evil.encode("utf-8")}
    headers = {name: value for name, value in header.items() if b"\r" not in value and b"\n" not in value}
    reply = httpx.Response(200, content=b"data: " + event + b"\n\ndata: [DONE]\n\n", headers=headers)
    client = httpx.Client(base_url="http://127.0.0.1:8000", transport=httpx.MockTransport(lambda _: reply))
    assert chat._answer(client, [], {}) == f"Paris{evil}"  # what goes back as the conversation is unchanged
    told = capsys.readouterr()
    assert "Paris" in told.out
    assert not OBEYED.search(told.out + told.err)


@pytest.mark.parametrize("evil", EVIL)
def test_a_worker_cannot_speak_to_the_terminal(evil: str) -> None:
    """Its names, its hardware and why its model failed."""
    odd = fleets.instance("q8_0", model=evil, error=evil)
    assert not OBEYED.search(shown(fleet_table(fleet_body(fleets.snapshot(fleets.worker(evil, odd))))))


@pytest.mark.parametrize("evil", EVIL)
async def test_a_router_cannot_speak_to_an_owners_terminal(evil: str) -> None:
    """Not even before its certificate was checked."""

    async def findings() -> Any:
        yield Finding(check="reach", ok=False, detail=evil, hint=evil)

    out = io.StringIO()
    view = JoinView(Console(file=out, width=200))
    view.say(evil)
    view.warn(evil)
    view.hardware(Hardware(kind="cpu", name=evil))
    await _show(findings(), view.console)
    assert not OBEYED.search(out.getvalue())


@pytest.mark.parametrize("evil", EVIL)
def test_logs_on_a_terminal_are_text(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON escapes by itself; lines for people do not."""
    assert not OBEYED.search(str(printable_event(None, "info", {"event": "x", "reason": evil})["reason"]))
    say(evil, err=True)
    typer.echo("")
    assert not OBEYED.search(capsys.readouterr().err)
