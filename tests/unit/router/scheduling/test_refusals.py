"""What a worker's no means: the client's own fault, or a reason to try elsewhere."""

import pytest

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Refusal, RefusalCode
from router.domain.snapshot import FleetSnapshot
from router.scheduling.refusals import is_clients_fault
from tests.support.fleets import instance, request, snapshot, worker


def refusal(code: RefusalCode, context_tokens: int = 2048) -> Refusal:
    """Worker ``a``, whose context is 2,048 tokens, says no."""
    return Refusal(request_id=RequestId("r"), attempt=1, code=code, message="no", context_tokens=context_tokens)


def fleet(*contexts: int) -> FleetSnapshot:
    """Worker ``a`` with the first context, ``b`` with the second, and so on."""
    return snapshot(
        *(worker(name, instance(context_tokens=tokens)) for name, tokens in zip("abc", contexts, strict=False))
    )


TRIED = frozenset({WorkerId("a")})


def test_a_bad_value_is_the_clients_fault_whoever_else_there_is() -> None:
    """No other worker would take it either."""
    assert is_clients_fault(refusal(RefusalCode.INVALID), request(), fleet(2048, 8192), TRIED)


@pytest.mark.parametrize("code", [RefusalCode.CONTEXT_LENGTH, RefusalCode.UNSUPPORTED])
def test_a_limit_is_the_clients_fault_only_when_nobody_goes_further(code: RefusalCode) -> None:
    """An untried worker with a longer context may still take it; one as short may not."""
    assert not is_clients_fault(refusal(code), request(), fleet(2048, 8192), TRIED)
    assert is_clients_fault(refusal(code), request(), fleet(2048, 2048), TRIED)


@pytest.mark.parametrize("claimed", [2049, 8192, 2**32 - 1])
def test_a_worker_that_claims_more_context_than_it_announced_turns_nobody_away(claimed: int) -> None:
    """Its word would otherwise be the client's 400, with another worker there that takes the prompt."""
    assert not is_clients_fault(refusal(RefusalCode.CONTEXT_LENGTH, claimed), request(), fleet(2048, 8192), TRIED)


@pytest.mark.parametrize("code", [RefusalCode.BUSY, RefusalCode.DRAINING, RefusalCode.ENGINE_FAILED])
def test_a_workers_own_trouble_is_never_the_clients_fault(code: RefusalCode) -> None:
    """The request goes elsewhere."""
    assert not is_clients_fault(refusal(code), request(), fleet(2048), TRIED)
