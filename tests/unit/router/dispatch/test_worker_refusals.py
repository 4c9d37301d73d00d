"""What a worker's no means: the client's own fault is raised, anything else sends the request elsewhere."""

import pytest

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned
from router.dispatch.refusal_mapping import is_breach, raise_if_clients_fault, reason_of, workers_fault
from router.domain.snapshot import FleetSnapshot
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter
from tests.support.fleets import instance, request, snapshot, worker


def refusal(code: RefusalCode) -> Refusal:
    """Worker ``a``, whose context is 2,048 tokens, says no."""
    return Refusal(request_id=RequestId("r"), attempt=1, code=code, message="no", context_tokens=2048)


def fleet(*contexts: int) -> FleetSnapshot:
    """Worker ``a`` with the first context, ``b`` with the second, and so on."""
    return snapshot(
        *(worker(name, instance(context_tokens=tokens)) for name, tokens in zip("abc", contexts, strict=False))
    )


TRIED = frozenset({WorkerId("a")})


def test_a_bad_value_is_the_clients_fault_whoever_else_there_is() -> None:
    """No other worker would take it either."""
    with pytest.raises(InvalidRequest):
        raise_if_clients_fault(refusal(RefusalCode.INVALID), request(), fleet(2048, 8192), TRIED)


@pytest.mark.parametrize(
    ("code", "error"),
    [(RefusalCode.CONTEXT_LENGTH, ContextLengthExceeded), (RefusalCode.UNSUPPORTED, UnsupportedParameter)],
)
def test_a_limit_is_the_clients_fault_only_when_nobody_goes_further(code: RefusalCode, error: type[Exception]) -> None:
    """An untried worker with a longer context may still take it; one as short may not."""
    raise_if_clients_fault(refusal(code), request(), fleet(2048, 8192), TRIED)
    with pytest.raises(error):
        raise_if_clients_fault(refusal(code), request(), fleet(2048, 2048), TRIED)


@pytest.mark.parametrize("code", [RefusalCode.BUSY, RefusalCode.DRAINING, RefusalCode.ENGINE_FAILED])
def test_a_workers_own_trouble_is_never_the_clients_fault(code: RefusalCode) -> None:
    """The request goes elsewhere."""
    raise_if_clients_fault(refusal(code), request(), fleet(2048), TRIED)


def test_every_ending_has_a_reason_in_words() -> None:
    """It stands in logs, in the continuation's metadata and in the client's error."""
    asked = {"request_id": RequestId("r"), "attempt": 1}
    assert reason_of(refusal(RefusalCode.BUSY)) == "no"
    assert reason_of(Returned(**asked, reason="drains")) == "drains"  # type: ignore[arg-type]
    assert reason_of(Delta(**asked, position=0, error="out of memory")) == "out of memory"  # type: ignore[arg-type]
    ended = Delta(**asked, position=0, finish_reason=FinishReason.ERROR)  # type: ignore[arg-type]
    assert reason_of(ended) == "the worker ended the stream (error)"
    assert reason_of(Accepted(**asked, prompt_tokens=1)) == "unexpected answer Accepted"  # type: ignore[arg-type]


ASKED = {"request_id": RequestId("r"), "attempt": 1}


@pytest.mark.parametrize(
    ("event", "fault", "breach"),
    [
        (refusal(RefusalCode.BUSY), False, False),
        (refusal(RefusalCode.ENGINE_FAILED), True, False),
        (Returned(**ASKED, reason="drains"), False, False),  # type: ignore[arg-type]
        (SessionLost(**ASKED, reason="gone"), True, False),  # type: ignore[arg-type]
        (SessionLost(**ASKED, reason="spoke at token 3", breach=True), True, True),  # type: ignore[arg-type]
        (Delta(**ASKED, position=0, finish_reason=FinishReason.ERROR), True, False),  # type: ignore[arg-type]
        (Delta(**ASKED, position=0, token_count=1, text="too early"), True, True),  # type: ignore[arg-type]
    ],
)
def test_a_crash_is_told_from_a_broken_rule_and_both_from_a_fair_no(
    event: AttemptEvent, fault: bool, breach: bool
) -> None:
    """The breaker forgives the first at once, remembers the second, and does not hear of the third."""
    assert workers_fault(event) is fault
    assert is_breach(event) is breach
