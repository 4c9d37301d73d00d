"""How an attempt ended, in words, and whose fault it was."""

import pytest

from protos.contract.ids import RequestId
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned
from router.dispatch.attempt_events import fault_of, reason_of
from router.domain.stream import AttemptEvent, SessionLost
from router.scheduling.events import Fault

R = RequestId("r")


def refusal(code: RefusalCode) -> Refusal:
    """A worker's no."""
    return Refusal(request_id=R, attempt=1, code=code, message="no")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (refusal(RefusalCode.BUSY), "no"),
        (Returned(request_id=R, attempt=1, reason="drains"), "drains"),
        (Delta(request_id=R, attempt=1, position=0, error="out of memory"), "out of memory"),
        (
            Delta(request_id=R, attempt=1, position=0, finish_reason=FinishReason.ERROR),
            "the worker ended the stream (error)",
        ),
        (Accepted(request_id=R, attempt=1, prompt_tokens=1), "unexpected answer Accepted"),
    ],
)
def test_every_ending_has_a_reason_in_words(event: AttemptEvent, reason: str) -> None:
    """It stands in logs, in the continuation's metadata and in the client's error."""
    assert reason_of(event) == reason


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (refusal(RefusalCode.BUSY), Fault.NONE),
        (refusal(RefusalCode.ENGINE_FAILED), Fault.MODEL),
        (Returned(request_id=R, attempt=1, reason="drains"), Fault.NONE),
        (SessionLost(request_id=R, attempt=1, reason="gone"), Fault.FAILURE),
        (SessionLost(request_id=R, attempt=1, reason="spoke at token 3", breach=True), Fault.BREACH),
        (Delta(request_id=R, attempt=1, position=0, finish_reason=FinishReason.ERROR), Fault.MODEL),
        (Delta(request_id=R, attempt=1, position=0, token_count=1, text="too early"), Fault.BREACH),
    ],
)
def test_a_crash_is_told_from_a_broken_rule_and_both_from_a_fair_no(event: AttemptEvent, fault: Fault) -> None:
    """The breaker forgives the first at once, remembers the second, and does not hear of the third."""
    assert fault_of(event) is fault
