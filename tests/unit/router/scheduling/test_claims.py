"""A claim counts until the worker's load shows its command, and is closed exactly once."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from router.domain.placement import Ending, Outcome, Placed
from router.scheduling.claims import Claim, ClaimClosed, Claims
from tests.support.fleets import request

W = WorkerId("w")


def claim(number: str, worker: str = "w") -> Claim:
    """100 prompt tokens to prefill, 10 to come."""
    placed = Placed(worker_id=WorkerId(worker), node=worker, model="m", quantization="q8_0")
    return Claim(
        request=request(number),
        placed=placed,
        attempt=1,
        prefill_tokens=100,
        output_tokens=10,
        dispatched=cast("Any", None),
    )


def test_a_claim_counts_until_a_report_reflects_its_command() -> None:
    """It starts at the decision, not at the send, and ends when the worker has seen the command."""
    claims, one = Claims(), claim("a")
    claims.open(one)
    assert claims.inflight(W).requests == 1
    claims.reflected(W, 10**9)
    assert claims.inflight(W).requests == 1, "a report cannot reflect what was never sent"
    one.sequence = 7
    claims.reflected(W, 6)
    assert claims.inflight(W).prompt_tokens == 100
    claims.reflected(W, 7)
    assert claims.inflight(W).requests == 0
    assert claims.count(W) == 1


def test_a_claim_is_closed_once() -> None:
    """A second end is a fault of its owner, and says whose."""
    claims, one = Claims(), claim("a")
    claims.open(one)
    claims.close(one, Outcome(ending=Ending.STOP))
    with pytest.raises(ClaimClosed, match=r"ra#1 on w@q8_0: stop.* now lost"):
        claims.close(one, Outcome(ending=Ending.LOST))
    assert len(claims) == 0


def test_a_request_has_one_claim_at_most() -> None:
    """Two would be two answers."""
    claims = Claims()
    claims.open(claim("a"))
    with pytest.raises(AssertionError, match="ra has"):
        claims.open(claim("a", "v"))


def test_a_lost_session_takes_with_it_what_was_sent_and_not_what_was_only_decided() -> None:
    """The command that did not go out yet goes over the next session, if one opens in time."""
    claims, sent, decided = Claims(), claim("a"), claim("b")
    for one in (sent, decided):
        claims.open(one)
    sent.sequence = 1
    claims.session_lost(W)
    assert claims.inflight(W).requests == 1
    assert claims.count(W) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["open", "sent", "close"])), max_size=60))
def test_totals_are_never_negative_and_end_at_zero(steps: list[tuple[str, str]]) -> None:
    """Whatever the order of events, closing everything leaves nothing."""
    claims = Claims()
    for sequence, (number, step) in enumerate(steps, start=1):
        live = claims.of(request(number).request_id)
        if step == "open" and live is None:
            claims.open(claim(number))
        elif live is not None and step == "sent":
            live.sequence = sequence
        elif live is not None and step == "close":
            claims.close(live, Outcome(ending=Ending.STOP))
        claims.validate()
        assert claims.inflight(W).requests <= claims.count(W)
    for one in list(claims):
        claims.close(one, Outcome(ending=Ending.ABORTED))
    assert claims.inflight(W).prompt_tokens == 0
