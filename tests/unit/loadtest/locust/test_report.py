"""Figures, verdicts and pages of load tests, from samples made by hand."""

import html.parser
import re
from pathlib import Path

import msgspec
import pytest

from loadtest.locust.recorder import Recorder
from loadtest.locust.report import report_of, write_report
from loadtest.locust.report.charts import Line, chart
from loadtest.locust.report.compare import MEASURES, UNDECIDED, compare_runs, spread, verdict
from loadtest.locust.report.page import page
from loadtest.locust.report.run import SAMPLES, BadRun, keep, read
from loadtest.locust.sample import Sample, Slo
from loadtest.locust.shapes import Shape, Step
from loadtest.locust.watch import Second
from tests.support.load_samples import facts, sample, shed


def second(**more: object) -> Second:
    known = {"at_s": 1.0, "process": 0, "cpu": 0.2, "lag_ms": 1.0, "in_flight": 3, "unsent": 0}
    return msgspec.convert({**known, **more}, Second)


def test_what_counts_as_in_time() -> None:
    """TTFT counts from when a request was due, whatever the generator did; a failed one is never in time."""
    slo = Slo(ttft_s=1.0, ttft_per_prompt_token_s=0.001, tpot_s=0.05)
    assert slo.met_by(sample(ttft_s=1.09))
    assert not slo.met_by(sample(ttft_s=1.11))
    assert not slo.met_by(sample(ttft_s=0.1, tpot_s=0.051))
    assert not slo.met_by(sample(error="broken"))
    assert not slo.met_by(shed(0.0))
    late = sample(ttft_s=0.6)
    late.due_s -= 0.6
    assert (late.sent_ttft_s, late.ttft_s) == (pytest.approx(0.6), pytest.approx(1.2))
    assert not slo.met_by(late)
    assert Slo(ttft_s=None, tpot_s=None, e2e_s=5.0).met_by(sample(ttft_s=4.0))


def test_goodput_sheds_and_shares_are_counted() -> None:
    ones = [sample(float(at)) for at in range(8)]
    ones += [
        sample(8.0, ttft_s=9.0, worker="m2", cached_tokens=50),
        shed(9.0),
        sample(10.0, error="x", code="worker_failed"),
    ]
    report = report_of(facts(), ones)
    assert (report["requests"], report["complete"]) == (11, 9)
    assert report["shed"] == {"no_capacity": 1}
    assert report["failed"] == {"worker_failed": 1}
    assert report["goodput_per_s"] == pytest.approx(0.8)
    assert report["within_slo"] == pytest.approx(8 / 11, abs=1e-3)
    assert report["prefix_hit"] == pytest.approx(50 / 900, abs=1e-3)
    assert {one["worker"]: one["share"] for one in report["workers"]} == {"m1": 0.8889, "m2": 0.1111}
    assert report["ttft_s"]["p50"] == pytest.approx(0.1)


def test_a_worker_s_speed_stands_beside_what_the_router_expects() -> None:
    run = facts()
    speed = {"base_s": 0.02, "per_sequence_s": 0.001, "per_context_token_s": 0.0}
    run.fleet = [
        {"node": "m1", "models": [{"quantization": "q4_0", "speed": None}, {"quantization": "q8_0", "speed": speed}]}
    ]
    row = report_of(run, [sample(0.0), sample(0.0), sample(50.0)])["workers"][0]
    assert row["tpot_s"] == pytest.approx(0.01)
    assert row["mean_batch"] == pytest.approx(1.5)
    assert row["expected_tpot_s"] == pytest.approx(0.0215)


@pytest.mark.parametrize(
    ("speed", "expected_s"),
    [
        ({"decode_curve": [[1, 0.01], [4, 0.04]], "base_s": 9.0}, 0.015),
        ({"decode_curve": [[1, 0.01]], "per_context_token_s": 1e-5}, 0.01 + 1.5 * 105.5e-5),
        ({"decode_curve": [], "base_s": 0.0}, None),
        ({}, None),
    ],
)
def test_a_measured_curve_goes_before_the_formula(speed: dict[str, object], expected_s: float | None) -> None:
    """And what an endpoint does not tell of a worker's speed is not made up."""
    run = facts()
    run.fleet = [{"node": "m1", "models": [{"quantization": "q8_0", "speed": speed}]}]
    row = report_of(run, [sample(0.0), sample(0.0), sample(50.0)])["workers"][0]
    assert row["expected_tpot_s"] == (None if expected_s is None else pytest.approx(expected_s, rel=1e-3))


def test_the_knee_is_the_highest_load_that_is_served_in_time() -> None:
    run = facts(shape="ramp", rate=1.0, peak=4.0, steps=3, duration_s=30.0)
    ones = [sample(at) for at in range(20)] + [sample(20 + at / 4, ttft_s=5.0) for at in range(40)]
    report = report_of(run, ones)
    assert [row["within_slo"] for row in report["steps"]] == [1.0, 1.0, 0.0]
    assert report["knee_per_s"] == pytest.approx(1.0)
    assert report_of(facts(), ones)["knee_per_s"] is None


def test_a_ramp_ends_once_two_steps_in_a_row_were_too_much(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Shape([Step(10.0, 1.0), Step(10.0, 2.0), Step(10.0, 4.0)]), Slo())
    for at in range(10):
        recorder.sample(sample(float(at), ttft_s=9.0))
    assert not recorder.beyond_the_knee(15.0)
    for at in range(10, 20):
        recorder.sample(sample(float(at), ttft_s=9.0))
    assert recorder.beyond_the_knee(20.1)
    recorder.close()
    recorder.sample(sample())  # cut off after the end: not kept
    assert len((tmp_path / SAMPLES).read_bytes().splitlines()) == 20


@pytest.mark.parametrize(
    ("watched", "late_s", "limit"),
    [
        ([second()] * 10, 0.0, None),
        ([second(cpu=0.95)] * 3 + [second()] * 7, 0.0, "processor"),
        ([second()], 0.05, "late"),
        ([second(unsent=4)], 0.0, "not begun"),
    ],
)
def test_the_generator_says_when_it_was_the_limit(watched: list[Second], late_s: float, limit: str | None) -> None:
    ones = [sample(float(at)) for at in range(10)]
    for one in ones:
        one.due_s -= late_s
    run = facts()
    run.watched = watched
    limits = report_of(run, ones)["generator"]["limits"]
    assert [limit in said for said in limits] == [True] if limit else limits == []


def test_the_router_s_own_account_is_compared() -> None:
    run = facts()
    before = dict.fromkeys(
        ("allsorts_requests_total", "allsorts_prompt_tokens_total", "allsorts_output_tokens_total",
         "allsorts_ttft_seconds_sum", "allsorts_ttft_seconds_count"), 5.0)  # fmt: skip
    grown = {"allsorts_requests_total": 7.0, "allsorts_prompt_tokens_total": 205.0,
             "allsorts_output_tokens_total": 27.0,
             "allsorts_ttft_seconds_sum": 5.2, "allsorts_ttft_seconds_count": 7.0}  # fmt: skip
    run.router_before, run.router_after = before, grown
    found = report_of(run, [sample(0.0, server_ttft_s=0.1), sample(1.0, server_ttft_s=0.1)])["agreement"]
    assert found is not None
    assert {name: row["off"] for name, row in found.items()} == {
        "requests": 0.0, "prompt tokens": 0.0, "output tokens": 0.0,
        "TTFT mean, s": pytest.approx(0.0, abs=1e-4), "TTFT p50, s": pytest.approx(0.0, abs=1e-4),
    }  # fmt: skip
    assert report_of(facts(), [sample()])["agreement"] is None


def test_a_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    """Its tags close, what a server said is escaped, and there is neither script nor address in it."""
    run = facts(str(tmp_path), label="<b>&")
    run.refused = {"tools": "<script>alert(1)</script>"}
    with (tmp_path / SAMPLES).open("wb") as file:
        for at in range(30):
            file.write(msgspec.json.encode(sample(float(at), worker='<img src="x">')) + b"\n")
    said = write_report(run, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert str(tmp_path / "report.html") in said
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"<[^>]*\s(src|href)=|url\(|@import", text)
    assert text.count("<svg") == 4
    opened: list[str] = []

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "i", "line", "circle", "polyline", "br") or tag == "circle":
                opened.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            return

        def handle_endtag(self, tag: str) -> None:
            if tag != "i":
                assert opened.pop() == tag

    Tags().feed(text)
    assert opened == []


def test_pages_of_odd_runs_can_be_made() -> None:
    """Nothing answered; one request; one worker without a name."""
    for ones in ([], [shed(0.0)], [sample()], [sample(worker="", tokens=1, gaps_ms=[])]):
        assert "</html>" in page(report_of(facts(), ones))


def test_charts_place_points_inside_their_frame() -> None:
    for log_y in (False, True):
        drawn = chart([Line(name="a", points=[(0.0, 0.001), (5.0, 900.0), (9.0, 3.0)])], x="x", y="y", log_y=log_y)
        places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
        assert len(places) == 3
        assert all(62 <= x <= 606 and 14 <= y <= 218 for x, y in places)
        assert len(re.findall('class="tick"', drawn)) >= 6


def runs(tmp_path: Path, name: str, ttfts: list[float]) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    keep(facts(str(folder), label=name), folder)
    lines = [msgspec.json.encode(sample(float(at), ttft_s=ttft)) for at, ttft in enumerate(ttfts)]
    (folder / SAMPLES).write_bytes(b"\n".join(lines))
    return folder


def test_runs_side_by_side_are_told_apart_only_outside_their_spread(tmp_path: Path) -> None:
    wide = [0.1 + 0.01 * (at * 37 % 50) for at in range(100)]
    one, same = runs(tmp_path, "one", wide), runs(tmp_path, "same", [value + 0.002 for value in wide])
    slow = runs(tmp_path, "slow", [3.0 * value for value in wide])
    said = compare_runs([[one], [same], [slow]], tmp_path / "out").splitlines()
    row = next(line for line in said if line.startswith("TTFT p50"))
    assert UNDECIDED in row
    assert "worse, 3.00 of the first" in row
    assert (tmp_path / "out" / "compare.html").exists()
    with pytest.raises(BadRun, match="second side"):
        compare_runs([[one]], tmp_path)
    with pytest.raises(BadRun, match="holds no run"):
        compare_runs([[one], [tmp_path]], tmp_path)


def test_repeats_spread_as_far_as_they_differ(tmp_path: Path) -> None:
    measure = next(one for one in MEASURES if one.name == "TTFT p50, s")
    repeats = {"a": [0.10, 0.12, 0.14], "b": [0.13, 0.15, 0.16], "c": [0.05, 0.06, 0.055]}
    sides = [
        [read(runs(tmp_path, f"{side}{place}", [value] * 30)) for place, value in enumerate(values)]
        for side, values in repeats.items()
    ]
    a, b, c = (spread(measure, side) for side in sides)
    assert a is not None
    assert (a.low, a.middle, a.high) == (pytest.approx(0.10), pytest.approx(0.12), pytest.approx(0.14))
    assert verdict(measure, a, b) == UNDECIDED
    assert verdict(measure, a, c).startswith("better")
    assert verdict(measure, a, None) == "not measured"


def test_a_key_does_not_go_to_disk(tmp_path: Path) -> None:
    keep(facts(str(tmp_path), api_key="sk-secret"), tmp_path)
    assert b"sk-secret" not in (tmp_path / "run.json").read_bytes()
    (tmp_path / SAMPLES).write_bytes(b"")
    assert read(tmp_path)[1] == []


def test_samples_survive_the_way_through_a_master() -> None:
    one = sample(3.0, continuations=2, valid_json=False)
    assert msgspec.convert(msgspec.to_builtins(one), Sample) == one
