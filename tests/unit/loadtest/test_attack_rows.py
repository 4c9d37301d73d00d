"""``make attack``: what is not as it must be is said, and there is a quick selection of every room."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.attack.attacks import ATTACKS, named
from loadtest.attack.attacks.bodies import BODIES
from loadtest.attack.attacks.door import DOOR
from loadtest.attack.attacks.joining import JOINING
from loadtest.attack.attacks.store import STORE
from loadtest.attack.attacks.workers import WORKERS
from loadtest.attack.results import write_rows
from loadtest.attack.rows import GIVEN_BACK_S, MEMORY_MB_OVER_IDLE, PROBE_P99_MS, SHARED_PROBE_P99_MS, Row
from loadtest.attack.starts import MOST_LINES, complaints_of
from loadtest.attack.target import Attack

GOOD = Row(
    attack="a", router="serve", streams_completed=10, streams_lost=0, probe_p99_ms=PROBE_P99_MS, probe_p99_idle_ms=1.0,
    probes_failed=0, memory_mb_idle=100.0, memory_mb_over_idle=MEMORY_MB_OVER_IDLE, memory_mb_over_idle_after=0.0,
    descriptors_idle=10, descriptors_most=20, descriptors_after=10, given_back_s=GIVEN_BACK_S, log_kb=1.0,
    machine_p99_ms=0.0, loop_stalls=0, loop_stalled_s=0.0, culprits=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"streams_lost": 1}, "1 honest streams lost"),
        ({"probe_p99_ms": SHARED_PROBE_P99_MS, "probe_bound_ms": SHARED_PROBE_P99_MS}, ""),
        ({"probe_p99_ms": SHARED_PROBE_P99_MS + 1, "probe_bound_ms": SHARED_PROBE_P99_MS}, "probe p99"),
        ({"streams_completed": 0}, "no honest stream completed"),
        ({"probe_p99_ms": PROBE_P99_MS + 1}, "probe p99"),
        ({"probe_p99_ms": PROBE_P99_MS + 50, "machine_p99_ms": 50.0}, ""),
        ({"probe_p99_ms": PROBE_P99_MS + 51, "machine_p99_ms": 50.0}, "of which the machine's 50"),
        ({"memory_mb_over_idle": MEMORY_MB_OVER_IDLE + 1}, "MB over idle"),
        ({"given_back_s": None}, "not given back"),
        ({"complaints": ("a client was charged",)}, "a client was charged"),
    ],
)
def test_each_bound_is_judged_and_named(change: dict[str, object], says: str) -> None:
    """Just within it nothing is said."""
    row = replace(GOOD, **change)  # type: ignore[arg-type]
    assert "; ".join(row.misses).find(says) >= 0
    assert bool(row.misses) == bool(says)
    told = row.as_json()
    assert {"attack", "router", "streams_lost", "probe_p99_ms", "memory_mb_over_idle", "given_back_s"} <= told.keys()


def test_every_attack_has_a_name_of_its_own_and_every_room_is_in_the_quick_selection() -> None:
    """What CI runs touches the door, bodies and workers."""
    assert len({one.name for one in ATTACKS}) == len(ATTACKS)
    assert all(named(one.name) is one for one in ATTACKS)
    for room in (DOOR, BODIES, WORKERS, JOINING, STORE):
        assert any(one.quick for one in room)


@pytest.mark.parametrize(
    ("said", "listening", "complaint"),
    [
        (["allsorts: no space left; free some"], [], ""),
        (["allsorts: no space left; free some"], [8000], "port 8000 listens"),
        ([], [], "it said nothing"),
        (["x"] * (MOST_LINES + 1), [], "4 lines"),
        (["Traceback (most recent call last):", "OSError"], [], "a traceback"),
    ],
)
def test_a_start_that_fails_says_so_in_a_line_and_leaves_nothing(
    said: list[str], listening: list[int], complaint: str
) -> None:
    """Each way in which it may not is named."""
    assert "; ".join(complaints_of(said, listening)).find(complaint) >= 0
    assert bool(complaints_of(said, listening)) == bool(complaint)
    assert not replace(GOOD, serves=False, streams_completed=0).misses


@pytest.mark.parametrize(
    "one",
    [one for one in JOINING if one.after({"refused": 5.0, "let in": 1.0, "tokens": 1.0, "allowed": 1.0})],
    ids=lambda one: one.name,
)
def test_who_comes_in_where_nobody_may_is_told(one: Attack) -> None:
    """And an attack that reached nobody is no success."""
    assert one.after({})
    assert any("let in" in said for said in one.after({"refused": 5.0, "let in": 1.0}))


def test_a_run_in_pieces_keeps_its_rows(tmp_path: Path) -> None:
    """Each with its commit; one that is run anew takes the place of the earlier one, and a plain run begins anew."""
    out = tmp_path / "there" / "attack.json"
    write_rows(out, [GOOD, replace(GOOD, attack="b")], commit="one", more=True)
    write_rows(out, [replace(GOOD, attack="b"), replace(GOOD, router="uvicorn")], commit="two", more=True)
    found = json.loads(out.read_text())
    assert found["commit"] == "two"
    told = {(row["attack"], row["router"]): row["commit"] for row in found["rows"]}
    assert told == {("a", "serve"): "one", ("b", "serve"): "two", ("a", "uvicorn"): "two"}
    write_rows(out, [GOOD], commit="three", more=False)
    assert len(json.loads(out.read_text())["rows"]) == 1
