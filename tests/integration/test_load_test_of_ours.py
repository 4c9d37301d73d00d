"""A load test of our own router: what it counts and what we count are the same requests and tokens."""

import json
from pathlib import Path

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.house.pool import NODE, Pool
from loadtest.locust.cli import run_locust
from loadtest.locust.options import Options


def test_requests_and_tokens_are_those_of_the_router_s_metrics(tmp_path: Path) -> None:
    """Each request of ours stands beside the router's own figure for it, sheds and refusals too."""
    folder = tmp_path / "run"
    with Pool(Checkout.here(), tmp_path / "pool") as pool:
        options = Options(url=pool.url, rate=12.0, duration_s=4.0, longest_output=40, out=str(folder))
        assert run_locust(options) == 0
    report = json.loads((folder / "report.json").read_text())
    agreement = report["agreement"]
    for name in ("requests", "prompt tokens", "output tokens"):
        assert agreement[name]["here"] == agreement[name]["router"] > 0
    assert {"TTFT mean, s", "TTFT p50, s"} <= set(agreement)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    complete = [one for one in samples if one["status"] == 200]
    assert all(0 < one["server_ttft_s"] <= one["first_s"] - one["sent_s"] for one in complete)
    assert {one["worker"] for one in complete} == {NODE}
    assert report["kinds"]["azure-like"]["requests"] == len(samples)
    assert {one["code"] for one in samples if one["status"] != 200} <= {"context_length_exceeded", "no_capacity"}
