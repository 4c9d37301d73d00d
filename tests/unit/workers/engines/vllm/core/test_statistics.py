"""vLLM's own statistics become the load figures that the router reads."""

from types import SimpleNamespace
from typing import Any

import pytest

from protos.contract.request import Job, Sampling
from workers.engines.prompts import Prepared
from workers.engines.speech import Speech
from workers.engines.vllm.core.statistics import Statistics
from workers.engines.vllm.running import Running


def running(position: int, tokens: int, expected: int = 40) -> Running:
    job = Job(
        request_id="r", attempt=1, model="m", quantization="awq", sampling=Sampling(), expected_output_tokens=expected
    )
    ids = list(range(tokens))
    one = Running(
        job=job,
        prepared=Prepared(tokens=ids, prompt=ids, sent=[], budget=100),
        piece=lambda _: b"x",
        ends=frozenset(),
        engine_id="r-1",
        speech=Speech(()),
    )
    one.position = position
    return one


def said(
    waiting: int = 0, used: float = 0.5, hits: int = 0, drafts: tuple[int, int, int] | None = None, **step: Any
) -> SimpleNamespace:
    """One ``SchedulerStats``, as far as it is read."""
    details = SimpleNamespace(
        is_dummy=False, elapsed_ms=20.0, num_ctx_requests=0, num_ctx_tokens=0, num_generation_requests=0,
        num_generation_tokens=0,
    )  # fmt: skip
    vars(details).update(step)
    return SimpleNamespace(
        num_waiting_reqs=waiting,
        num_skipped_waiting_reqs=0,
        kv_cache_usage=used,
        prefix_cache_stats=SimpleNamespace(queries=100, hits=hits),
        iteration_details=details if step else None,
        spec_decoding_stats=None
        if drafts is None
        else SimpleNamespace(num_drafts=drafts[0], num_draft_tokens=drafts[1], num_accepted_tokens=drafts[2]),
    )


def test_a_step_is_told_with_its_batch_and_its_prefill() -> None:
    """What the join benchmark and the router's predictor learn from."""
    statistics = Statistics()
    statistics.record(
        said(
            waiting=1, hits=64, num_ctx_requests=2, num_ctx_tokens=300, num_generation_requests=3,
            num_generation_tokens=3,
        )
    )  # fmt: skip
    load = statistics.figures([running(5, 100), running(1, 50), running(0, 200)])
    assert (load.running, load.waiting, load.kv_used) == (2, 1, 0.5)
    assert (load.last_step_batch, load.last_step_prefill_tokens, load.last_step_prefills) == (3, 300, 2)
    assert load.last_step_s == pytest.approx(0.02)
    assert (load.step_sequence, load.prefill_progress) == (1, 300)
    assert load.prefill_tokens_pending == 200
    assert load.context_tokens == 105 + 51
    assert load.expected_remaining_tokens == 35 + 39 + 40
    assert (statistics.prefix_queried, statistics.prefix_found) == (100, 64)


def test_nothing_running_is_nothing_whatever_was_said_last() -> None:
    """VLLM says nothing more once it is idle: its last word must not stand."""
    statistics = Statistics()
    statistics.record(said(waiting=3, num_generation_requests=3, num_generation_tokens=3))
    load = statistics.figures([])
    assert (load.running, load.waiting, load.kv_used, load.tokens_per_s) == (0, 0, 0.0, 0.0)
    assert load.step_sequence == 1


def test_steps_that_did_nothing_are_no_steps() -> None:
    """An empty step, a dummy one, and no statistics at all."""
    statistics = Statistics()
    statistics.record(None)
    statistics.record(said())
    statistics.record(said(is_dummy=True, num_generation_tokens=4))
    statistics.record(said(num_generation_tokens=0))
    assert statistics.steps == 0


def test_what_vllm_speculates_is_counted_since_the_start() -> None:
    """Rounds, tokens proposed and accepted; the rate counts tokens that were said, not rows that were computed."""
    statistics = Statistics()
    for _ in range(3):
        statistics.record(said(drafts=(2, 8, 3), num_generation_requests=2, num_generation_tokens=10))
    statistics.record(said(num_generation_requests=2, num_generation_tokens=2))
    load = statistics.figures([])
    assert (load.draft_rounds, load.draft_proposed, load.draft_accepted) == (6, 24, 9)
    without = Statistics()
    without.record(said(num_generation_requests=2, num_generation_tokens=10))
    with_it = Statistics()
    with_it.record(said(drafts=(2, 8, 3), num_generation_requests=2, num_generation_tokens=10))
    assert with_it.tokens_per_s == pytest.approx(without.tokens_per_s / 2, rel=0.2)
