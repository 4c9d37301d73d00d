"""Metrics count requests, never tokens one by one, and read the fleet only when scraped."""

import asyncio
from dataclasses import replace

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.stream import Usage
from router.telemetry.metrics import Metrics
from tests.support import fleets


def test_a_request_is_counted_with_its_times_and_tokens() -> None:
    metrics = Metrics()
    metrics.request_ended(
        model="m", quantization="q8_0", status="200", e2e_s=2.1, ttft_s=0.1,
        usage=Usage(prompt_tokens=10, completion_tokens=21, cached_tokens=4),
    )  # fmt: skip
    text = metrics.render().decode()
    labels = '{model="m",quantization="q8_0"}'
    assert f"allsorts_prompt_tokens_total{labels} 10.0" in text
    assert f"allsorts_cached_tokens_total{labels} 4.0" in text
    assert f"allsorts_output_tokens_total{labels} 21.0" in text
    assert f"allsorts_ttft_seconds_sum{labels} 0.1" in text
    assert f"allsorts_tpot_seconds_sum{labels} 0.1" in text


def test_an_aborted_request_counts_its_tokens_but_no_end_to_end_time() -> None:
    metrics = Metrics()
    metrics.request_ended(
        model="m", quantization="q8_0", status="aborted", e2e_s=1.0, ttft_s=0.5, usage=Usage(completion_tokens=3)
    )
    text = metrics.render().decode()
    assert 'allsorts_output_tokens_total{model="m",quantization="q8_0"} 3.0' in text
    assert "allsorts_e2e_seconds_count{" not in text


def test_moves_sheds_and_decisions_are_counted() -> None:
    metrics = Metrics()
    metrics.continued("q4_k_m", "q8_0")
    metrics.shed("no_capacity")
    metrics.placement_decided(0.0002)
    text = metrics.render().decode()
    assert 'allsorts_continued_total{from_quantization="q4_k_m",to_quantization="q8_0"} 1.0' in text
    assert 'allsorts_shed_total{reason="no_capacity"} 1.0' in text
    assert "allsorts_placement_seconds_count 1.0" in text


def test_two_routers_in_one_process_do_not_share_figures() -> None:
    one, other = Metrics(), Metrics()
    one.shed("overloaded")
    assert b'reason="overloaded"' not in other.render()


async def test_what_the_process_holds_is_read_at_every_scrape() -> None:
    """Open requests, claims and tasks by our count, memory and descriptors by the system's."""
    metrics, held = Metrics(), [3]
    metrics.watch_process(requests=lambda: held[0], claims=lambda: 2 * held[0])
    assert b"allsorts_open_requests 3.0\n" in metrics.render()
    held[0] = 0
    text = metrics.render().decode()
    assert "allsorts_open_claims 0.0\n" in text
    assert f"allsorts_tasks {len(asyncio.all_tasks())}.0\n" in text
    figures = dict(line.split(" ") for line in text.splitlines() if line.startswith("process_"))
    assert float(figures["process_resident_memory_bytes"]) > 1e6
    assert float(figures["process_open_fds"]) > 2


def test_the_fleet_is_read_at_every_scrape() -> None:
    metrics = Metrics()
    seen = [fleets.snapshot()]
    metrics.watch_fleet(lambda: seen[-1])
    assert b'node="mac"' not in metrics.render()
    seen.append(fleets.snapshot(fleets.worker("mac", cordoned=True)))
    assert b'allsorts_worker_cordoned{node="mac"} 1.0' in metrics.render()


def test_speculation_is_counted_for_each_worker() -> None:
    """Proposed and accepted, as the worker tells."""
    metrics = Metrics()
    worker = fleets.worker("mac")
    load = replace(worker.load, draft_rounds=3, draft_proposed=9, draft_accepted=4)
    metrics.watch_fleet(lambda: fleets.snapshot(replace(worker, load=load)))
    text = metrics.render()
    assert b'allsorts_worker_draft_tokens{node="mac",outcome="proposed"} 9.0' in text
    assert b'allsorts_worker_draft_tokens{node="mac",outcome="accepted"} 4.0' in text


def test_a_pair_of_target_and_draft_is_shown() -> None:
    """By the target's node and model and the draft's worker."""
    report = DraftReport(
        model="m", quantization="q8_0", draft_worker_id=WorkerId("mini"), rounds=4, proposed=12, accepted=7, late=1,
        wasted_s=0.5, predicted_gain=1.5, measured_gain=1.25, paused="late",
    )  # fmt: skip
    metrics = Metrics()
    metrics.watch_fleet(lambda: fleets.snapshot(fleets.worker("mac", drafting=(report,))))
    text = metrics.render()
    pair = b'draft="mini",model="m",node="mac"'
    for line in (
        b"allsorts_draft_tokens{" + pair + b',outcome="accepted"} 7.0',
        b"allsorts_draft_late_rounds{" + pair + b"} 1.0",
        b"allsorts_draft_wasted_seconds{" + pair + b"} 0.5", b"allsorts_draft_paused{" + pair + b"} 1.0",
        b'allsorts_draft_gain_ratio{draft="mini",kind="measured",model="m",node="mac"} 1.25',
    ):  # fmt: skip
        assert line in text, text.decode()
