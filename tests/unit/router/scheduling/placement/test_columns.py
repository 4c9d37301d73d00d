"""Rule: blocks are the whole table, and what is written into one is read from it under the same name."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest

from protos.contract.worker import Load, Speed
from router.domain.placement import Prediction
from router.domain.snapshot import Inflight
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.speed_model import SpeedModel
from router.scheduling.placement.candidates import Candidates, InstanceKey, RequestFacts
from router.scheduling.placement.columns import (
    BLOCKS,
    CLAIMS,
    COLUMNS,
    LOAD,
    SLACK_COUNTS,
    SLACK_LEADS,
    Block,
    Column,
)
from router.scheduling.placement.cost import CostWeights, score
from router.scheduling.placement.fleet_table import FleetTable
from router.scheduling.placement.quality import TabulatedQuality
from tests.support.fleets import instance, snapshot, worker

SPEED = Speed(
    base_s=0.02, per_sequence_s=0.0005, per_context_token_s=1e-7, prefill_tokens_per_s=2000.0, prefill_base_s=0.03
)
HELD = instance("q8_0", speed=SPEED, slots=7, context_tokens=9000, kv_capacity_tokens=70_000, perplexity_ratio=1.25)
LOADED = Load(
    observed_at=50.0,
    running=3,
    waiting=2,
    kv_used=0.4,
    context_tokens=4000,
    expected_remaining_tokens=600,
    prefill_tokens_pending=800,
    prefill_progress=1000,
    step_sequence=10,
    price_s=4.0,
    last_step_s=0.05,
)
VIEW = worker(
    "w",
    HELD,
    load=LOADED,
    inflight=Inflight(requests=4, prompt_tokens=900, output_tokens=450),
    rtt_s=0.01,
    suspended_until=60.0,
)
KEY = InstanceKey(VIEW.worker_id, "m", "q8_0")


def test_the_blocks_are_the_whole_table_in_its_order() -> None:
    """Each column is in one of them, and only one."""
    assert list(chain.from_iterable(block.columns for block in BLOCKS)) == list(Column)
    assert [block.at.start for block in BLOCKS][1:] == [block.at.stop for block in BLOCKS][:-1]
    assert BLOCKS[-1].at.stop == COLUMNS


@pytest.mark.parametrize(
    "columns",
    [(Column.BASE_S, Column.PREFILL_TOKEN_S), (Column.WAITING, Column.RUNNING), (Column.SLOTS, Column.SLOTS)],
)
def test_columns_that_do_not_stand_together_are_no_block(columns: tuple[Column, ...]) -> None:
    """With a column put between them, or in another order, the import fails, and no price is silently wrong."""
    with pytest.raises(ValueError, match=columns[0].name):
        Block(*columns)


def test_what_is_added_row_by_row_stands_row_by_row() -> None:
    """Load and claims; counts and leads."""
    assert [(one.name, other.name) for one, other in zip(LOAD.columns, CLAIMS.columns, strict=True)] == [
        ("IN_ENGINE", "INFLIGHT_REQUESTS"),
        ("CONTEXT_HELD", "INFLIGHT_CONTEXT"),
        ("EXPECTED_REMAINING", "INFLIGHT_OUTPUT"),
        ("PREFILL_PENDING", "INFLIGHT_PREFILL"),
    ]
    for count, lead in zip(SLACK_COUNTS.columns, SLACK_LEADS.columns, strict=True):
        assert lead.name == f"{count.name}_LEAD_S"


def test_every_figure_is_read_under_the_name_it_was_written() -> None:
    """All that a worker says, each with a value of its own."""
    speeds = SpeedModel(lambda _hardware, _instance: SPEED)
    table = FleetTable(speeds, PrefixIndex(), TabulatedQuality())
    table.refresh(snapshot(VIEW))
    table.set_outstanding(KEY, 6)
    # 800 tokens are pending and 900 on the way; then these, in turn. A lead under a second is low slack.
    pending = 1700
    for name, prompt in (("low", 200), ("high", 800), ("higher", 1200)):
        seen = Prediction(ttft_s=100.0, tpot_s=0.05)
        table.run_started(KEY, name, 50.0, 0.1, prompt, seen)
    table.refresh(snapshot(replace(VIEW, load=replace(LOADED, observed_at=51.0, prefill_progress=1300))))
    token_s = 1 / 2000.0
    leads = [(pending + prompt - 300) * token_s for prompt in (200, 800, 1200)]
    written = {
        Column.BASE_S: 0.02,
        Column.PER_SEQUENCE_S: 0.0005,
        Column.PER_CONTEXT_TOKEN_S: 1e-7,
        Column.PREFILL_TOKEN_S: token_s,
        Column.PREFILL_BASE_S: 0.03,
        Column.SLOTS: 7,
        Column.CONTEXT_LIMIT: 9000,
        Column.KV_CAPACITY: 70_000,
        Column.QUALITY_LOSS: 0.25,
        Column.RTT_S: 0.01,
        Column.PRICE_S: 4.0,
        Column.SUSPENDED_UNTIL: 60.0,
        Column.OBSERVED_AT: 51.0,
        Column.RUNNING: 3,
        Column.WAITING: 2,
        Column.KV_USED: 0.4,
        Column.KV_FREE: 70_000 - 4900,
        Column.IN_ENGINE: 5,
        Column.CONTEXT_HELD: 4000,
        Column.EXPECTED_REMAINING: 600,
        Column.PREFILL_PENDING: 800,
        Column.INFLIGHT_REQUESTS: 4,
        Column.INFLIGHT_CONTEXT: 900,
        Column.INFLIGHT_OUTPUT: 450,
        Column.INFLIGHT_PREFILL: 900,
        Column.OUTSTANDING: 6,
        Column.CACHED_TOKENS: 0,
        Column.PREFILL_SHARE: 300 * token_s * (1 - np.exp(-0.1)),
        Column.LOW_SLACK: 1,
        Column.HIGH_SLACK: 2,
        Column.LOW_SLACK_LEAD_S: leads[0],
        Column.HIGH_SLACK_LEAD_S: (leads[1] + leads[2]) / 2,
    }
    assert [column.name for column in Column if column not in written] == []
    for column, value in written.items():
        assert table.data[column, 0] == pytest.approx(value), column.name


@pytest.mark.parametrize(("in_engine", "unseen"), [(3.0, 1), (3.0, 4), (20.0, 1)])
def test_a_price_is_made_of_the_figures_it_names(in_engine: float, unseen: int) -> None:
    """The formula of the design once more, figure by figure, for one candidate of which each figure is its own."""
    figures = {column: 1.0 + 0.1 * column for column in Column}
    figures |= {
        Column.IN_ENGINE: in_engine,
        Column.SLOTS: 8.0,
        Column.PREFILL_SHARE: 0.3,
        Column.OBSERVED_AT: 99.5,
        Column.LOW_SLACK: 2.0,
        Column.LOW_SLACK_LEAD_S: 0.5,
        Column.HIGH_SLACK: 3.0,
        Column.HIGH_SLACK_LEAD_S: 400.0,
    }
    data = np.array([[figures[column]] for column in Column])
    facts = RequestFacts(100.0, 0.2, 50, 20.0, ttft_target_s=3.0, tpot_target_s=9.0)
    weights = CostWeights(replicas=unseen, lambda_quality=2.0)
    found = score(Candidates((KEY,), ("w",), data), facts, weights)
    f = {column.name.lower(): value for column, value in figures.items()}
    engine = f["in_engine"] + weights.unseen * f["inflight_requests"]
    remaining = f["expected_remaining"] + weights.unseen * f["inflight_output"]
    batch = min(engine, f["slots"])
    step = f["base_s"] + f["per_sequence_s"] * batch
    step += f["per_context_token_s"] * (f["context_held"] + weights.unseen * f["inflight_context"])
    free = engine < f["slots"]
    left = 1.0 - f["prefill_share"]
    after = (step + f["per_context_token_s"] * 60.0 + (f["per_sequence_s"] if free else 0.0)) / left
    wait = (f["prefill_pending"] + weights.unseen * f["inflight_prefill"]) * f["prefill_token_s"] - 0.5
    wait += 0.0 if free else (engine - batch + 1) * remaining / (engine * f["slots"]) * step
    prefill = (50 - f["cached_tokens"]) * f["prefill_token_s"] + f["prefill_base_s"]
    ttft = f["rtt_s"] + wait + prefill
    gain = max(9.0 - step, 0.45) * 20.0
    violations = sum(
        f[slack] * (np.exp(min(f[lead] - wait, 0) / gain) - np.exp(min(f[lead] - wait - prefill, 0) / gain))
        for slack, lead in (("low_slack", "low_slack_lead_s"), ("high_slack", "high_slack_lead_s"))
    ) * weights.unseen  # fmt: skip
    slow_after, slow_before = max(after - 9.0, 0.0), max(step / left - 9.0, 0.0)
    missed = max(ttft + 0.2 - 3.0, 0.0) + slow_after * 20.0 + (slow_after - slow_before) * remaining
    terms = {
        "rtt": f["rtt_s"],
        "wait": wait,
        "prefill": prefill,
        "decode": 20.0 * after,
        "harm": (after - step / left) * remaining + batch * prefill,
        "expected_slo_violations": violations,
        "slo": 10.0 * (missed + violations),
        "price": f["price_s"],
        "quality": 200.0 * f["quality_loss"],
        "ttft": ttft,
        "tpot": after,
    }
    assert {name: pytest.approx(values[0]) for name, values in found.terms.items()} == terms
    added = sum(value for name, value in terms.items() if name not in ("expected_slo_violations", "ttft", "tpot"))
    assert found.cost[0] == pytest.approx(added)


def test_columns_are_numbered_without_a_gap() -> None:
    """They are rows of an array."""
    assert all(after - before == 1 for before, after in pairwise(Column))
    assert Column.BASE_S == 0
