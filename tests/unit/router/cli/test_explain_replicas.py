"""``allsorts explain`` in a pool of several router replicas, in a narrow terminal, and of what was refused."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from router.cli import explain as commands
from router.cli.support.decision_sources import Explanation
from tests.unit.router.cli.test_explain_command import explanation, served
from tests.unit.router.cli.test_replay_command import run


def answering(monkeypatch: pytest.MonkeyPatch, replies: Iterator[tuple[int, Any]]) -> None:
    def get(url: str, **_: Any) -> httpx.Response:
        status, body = next(replies)
        return httpx.Response(status, content=msgspec.json.encode(body), request=httpx.Request("GET", url))

    monkeypatch.setattr(commands.httpx, "get", get)


def unknown_at(rank: int, of: int = 3) -> tuple[int, dict[str, Any]]:
    return 404, {"error": {"message": "no"}, "replica": f"router-{rank}", "replicas": of}


def test_replicas_are_asked_until_one_has_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy in front chooses who answers; the same one may come up twice."""
    answering(monkeypatch, iter([unknown_at(0), unknown_at(0), unknown_at(2), (200, explanation())]))
    assert "picked fast" in run("explain", "r7")


def test_when_all_have_been_heard_nobody_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one is asked once more."""
    answering(monkeypatch, iter([unknown_at(0), unknown_at(2), unknown_at(0), unknown_at(1)]))
    assert "it was not sampled, has aged out, or never was" in run("explain", "r7", code=1)


def test_a_replica_that_never_answers_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a bounded time, and naming who was heard."""
    clock = iter(range(100))
    monkeypatch.setattr(commands.time, "monotonic", lambda: float(next(clock)))
    answering(monkeypatch, iter([unknown_at(0)] * 50))
    text = run("explain", "r7", code=1)
    assert "no record of this request at router-0; 2 of the 3 router replicas did not answer in 10 s" in text


def test_in_80_columns_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once every cell was an ellipsis."""
    served(monkeypatch, body=explanation())
    wide, narrow = run("explain", "r7"), run("explain", "r7", width=80)
    assert "…" not in narrow
    assert max(len(line) for line in narrow.splitlines() if line.startswith(("fast ", "slow ", "node "))) <= 80
    assert set(wide.split()) == set(narrow.split())


def test_a_refused_request_is_explained_worker_by_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client was told, and what it was spared."""
    rows = [
        {
            "worker": f"w{n}",
            "node": f"mac-{n}",
            "quantization": "q8_0",
            "filter": "cordon",
            "reason": "cordoned by [me]",
        }
        for n in range(9)
    ]
    refused = {"code": "no_capacity", "message": "of 9 workers, 9 cordoned", "exclusions": rows}
    served(monkeypatch, body={"request_id": "r7", "records": [], "refused": refused})
    text = run("explain", "r7", width=80)
    assert "refused (no_capacity): of 9 workers, 9 cordoned" in text
    assert all(f"mac-{n}  q8_0          cordoned by [me]" in text for n in range(9))
    line = run("explain", "r7", "--json")
    assert msgspec.json.decode(line, type=Explanation).refused is not None


def test_the_older_name_of_the_flag_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--url`` is the one that is shown, as everywhere."""
    asked: list[str] = []

    def get(url: str, **_: Any) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, content=msgspec.json.encode(explanation()), request=httpx.Request("GET", url))

    monkeypatch.setattr(commands.httpx, "get", get)
    run("explain", "r7", "--router", "http://a:1/")
    run("explain", "r7", "--url", "http://b:2")
    assert asked == ["http://a:1/admin/explain/r7", "http://b:2/admin/explain/r7"]
    assert "--router" not in run("explain", "--help")
