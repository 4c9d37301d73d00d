"""``allsorts fleet --watch`` outlives a router that restarts."""

import io
from typing import Any

from rich.console import Console, RenderableType

from router.cli.fleet import watched
from router.errors import ConfigError
from router.http.admin.fleet_view import fleet_body
from tests.support import fleets

BODY = fleet_body(fleets.snapshot(fleets.worker("mac-studio-of-the-lab", fleets.instance("q8_0"))))


def text_of(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(view)
    return out.getvalue()


def test_a_poll_that_fails_is_told_below_the_last_table_and_the_next_one_replaces_it() -> None:
    """Only Ctrl-C ends a watch."""
    answers: list[dict[str, Any] | ConfigError] = [BODY, ConfigError("connection refused"), ConfigError("503"), BODY]
    clock = iter((100.0, 101.0, 102.0, 103.5, 104.0))

    def poll() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    views = watched(poll, lambda: next(clock))
    seen = [text_of(next(views)) for _ in range(4)]
    assert all("mac-studio-of-the-lab" in one for one in seen)
    assert "no answer for 1 s, trying on: connection refused" in seen[1]
    assert "no answer for 2 s, trying on: 503" in seen[2]
    assert "no answer" not in seen[3]
