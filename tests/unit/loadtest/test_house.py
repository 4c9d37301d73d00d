"""The arithmetic of ``make bench-house``: what is counted, what is divided by what, what a stream must bring."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.house.ratios import find_figures, in_turn, ratio
from loadtest.bench.house.report import Measured, figures, sizes
from loadtest.bench.house.router_cpu import Carried
from loadtest.bench.house.size import largest_package, lines_of, longest_module
from loadtest.bench.house.stream_client import read_events


def _house(folder: Path) -> Path:
    files = {
        "router/__init__.py": 1,
        "router/app.py": 10,
        "router/http/one.py": 5,
        "router/http/two.py": 6,
        "workers/server.py": 20,
        "protos/contract/codec.py": 7,
        "protos/allsorts/v1/fleet_pb2.py": 900,
        "protos/allsorts/v1/fleet_pb2_grpc.py": 900,
        "protos/allsorts/v1/draft_pb2.py": 900,
        "loadtest/bench/house.py": 3,
        "tests/unit/test_app.py": 800,
    }
    for name, lines in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n" * lines)
    return folder


def test_lines_are_all_lines_of_modules_but_of_tests_and_stubs(tmp_path: Path) -> None:
    """Docstrings, comments and blanks count, as the review counted them."""
    house = _house(tmp_path)
    assert lines_of(house, "router", "workers") == 42
    assert lines_of(house, "protos") == 7
    assert lines_of(house, "nowhere") == 0


def test_a_package_is_as_large_as_its_modules_without_its_init(tmp_path: Path) -> None:
    """Modules of packages below it are theirs; generated stubs are nobody's."""
    house = _house(tmp_path)
    assert largest_package(house) == ("router/http", 2)
    assert longest_module(house) == ("workers/server.py", 20)


def test_ratios_are_taken_within_rounds() -> None:
    """A machine that was twice as slow in one round changes no ratio."""
    found = ratio(base=[1.0, 2.0, 1.0], new=[1.1, 2.2, 1.2])
    assert found.median == pytest.approx(1.1)
    assert (found.low, found.high) == pytest.approx((1.1, 1.2))


def test_ratios_of_unequal_rounds_are_refused() -> None:
    """A round that only one side finished has no pair."""
    with pytest.raises(ValueError, match="longer"):
        ratio(base=[1.0, 2.0], new=[1.0])


def test_both_checkouts_take_turns_in_going_first() -> None:
    """Whoever goes second always would be measured on a warmer machine."""
    base, new = (Checkout(name=name, folder=Path(name)) for name in ("base", "new"))
    orders: list[list[str]] = []

    def measure(order: Sequence[Checkout]) -> dict[str, int]:
        orders.append([one.name for one in order])
        return {one.name: len(orders) for one in order}

    said: list[str] = []
    assert in_turn(base, new, 3, measure, said.append) == {"base": [1, 2, 3], "new": [1, 2, 3]}
    assert orders == [["base", "new"], ["new", "base"], ["base", "new"]]
    assert len(said) == 3


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ({"50": 70, "1000": 120.5}, {"50": 70.0, "1000": 120.5}),
        ({"decision_us_p50": {"50": 70.0, "1000": 120.0}, "other": 1}, {"50": 70.0, "1000": 120.0}),
        ({"50": 70.0}, None),
        ({"50": "70", "1000": "120"}, None),
        (None, None),
    ],
)
def test_figures_are_found_however_deep(written: object, found: dict[str, float] | None) -> None:
    """The two checkouts need not write them in one form."""
    assert find_figures(written, ("50", "1000")) == found


def test_a_streams_words_and_usage_are_read_from_its_events() -> None:
    """Other lines of the stream say nothing."""
    events = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "amber"}}]},
        {"choices": [{"delta": {"content": " anchor autumn"}}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        {"choices": [], "usage": {"completion_tokens": 3}},
    ]
    lines = [b"data: " + json.dumps(event).encode() + b"\n" for event in events]
    assert read_events([b": ping\n", *lines, b"\n", b"data: [DONE]\n"]) == ("amber anchor autumn", 2, 3)


def test_a_command_is_the_one_its_own_checkout_names(tmp_path: Path) -> None:
    """Modules move from checkout to checkout; the installed package knows one of them."""
    text = '[project]\nname = "x"\n[project.entry-points."allsorts.commands"]\nworker = "workers.old:worker"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    command = Checkout(name="base", folder=tmp_path).command("worker", "--node", "a")
    assert command[-3:] == ["workers.old:worker", "--node", "a"]


def test_the_written_figures_are_medians_with_their_spread(tmp_path: Path) -> None:
    """Under the names that are asked for."""

    def carried(cpu_s: float) -> Carried:
        return Carried(cpu_s=cpu_s, ttft_p50_s=0.05, tpot_p50_s=0.01)

    found = figures(
        Measured(
            base="ab91261",
            streams=1000,
            decisions={"base": [{"50": 70.0, "1000": 100.0}] * 2, "new": [{"50": 77.0, "1000": 90.0}] * 2},
            carried={"base": [carried(2.0), carried(4.0)], "new": [carried(2.0), carried(3.0)]},
            prefix={"prefix_clear_262144_s": 0.02, "prefix_dispatch_ms": 0.5},
            sizes={name: sizes(_house(tmp_path)) for name in ("base", "new")},
        )
    )
    assert found["decision_ratio_50"] == pytest.approx(1.1)
    assert found["decision_ratio_1000"] == pytest.approx(0.9)
    assert found["router_cpu_ratio"] == pytest.approx(0.875)
    assert found["spread"]["router_cpu_ratio"] == [0.75, 1.0]
    assert found["lines_router_workers"] == 42
    assert found["largest_package"] == 2
    assert (found["prefix_clear_262144_s"], found["prefix_dispatch_ms"]) == (0.02, 0.5)
    assert json.loads(json.dumps(found))["router_cpu_s"] == {"base": [2.0, 4.0], "new": [2.0, 3.0]}
