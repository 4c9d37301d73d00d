"""Rule: a machine whose owner asks a price is taken where a request is better off there by more than that."""

import msgspec
import pytest

from protos.contract.worker import Load
from router.domain.placement import Placed
from router.scheduling.explain.record import DecisionRecord
from router.scheduling.explain.replay import replay
from tests.support.fleets import request, snapshot, worker
from tests.support.placements import placer, recorded

SLOW = Load(running=8, waiting=40, context_tokens=8000, expected_remaining_tokens=40_000, prefill_tokens_pending=20_000)


def picked(price_s: float, other: Load | None = None) -> str:
    fleet = snapshot(worker("laptop", load=Load(price_s=price_s)), worker("desktop", load=other))
    outcome = placer().place(request(expected_output_tokens=50), fleet, 0.0)
    assert isinstance(outcome, Placed)
    return str(outcome.worker_id)


def test_on_battery_the_other_of_two_alike_is_taken() -> None:
    """Until it is so busy that the price is worth paying; a larger price is worth more waiting."""
    assert picked(5.0) == "desktop"
    assert picked(0.1) == "desktop"
    assert picked(5.0, SLOW) == "laptop"
    assert picked(3600.0, SLOW) == "desktop"


def test_alone_it_is_taken_at_any_price() -> None:
    """A price is no refusal."""
    outcome = placer().place(request(), snapshot(worker("laptop", load=Load(price_s=3600.0))), 0.0)
    assert isinstance(outcome, Placed)


def kept(*prices_s: float) -> DecisionRecord:
    machines = [worker(f"w{number}", load=Load(price_s=price)) for number, price in enumerate(prices_s)]
    record = recorded(placer(), snapshot(*machines), request())
    assert record is not None
    return record


def test_the_price_is_a_term_of_its_own_and_replayed() -> None:
    """Where nobody asks one, it is nothing."""
    record = kept(5.0, 0.0)
    by_node = {row.node: row.terms for row in record.candidates}
    assert (by_node["w0"]["price"], by_node["w1"]["price"]) == (5.0, 0.0)
    assert replay(record).same
    assert all(row.terms["price"] == 0.0 for row in kept(0.0, 0.0).candidates)


def test_a_record_from_before_there_were_prices_is_computed_again() -> None:
    """Nobody asked for one then."""
    record = kept(0.0, 0.0)
    rows = [
        msgspec.structs.replace(row, values={name: one for name, one in row.values.items() if name != "price_s"})
        for row in record.candidates
    ]
    old = msgspec.structs.replace(record, candidates=rows)
    assert replay(old).same
    assert replay(old).scores.cost == pytest.approx(replay(record).scores.cost)
