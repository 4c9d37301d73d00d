"""What a client hears of a request that admission refused: its own fault is a 4xx, the fleet's a 503."""

import pytest

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Refusal, RefusalCode
from router.dispatch.errors_of import error_of
from router.domain.placement import Exclusion, Exclusions, FilterName, NoCandidate
from router.http.server.errors import error_headers
from router.scheduling.events import Reject, Shed, ShedCode


def shed(code: str, *filters: str) -> Shed:
    """Refused with ``code``; one worker was removed by each filter."""
    exclusions = tuple(
        Exclusion(worker_id=WorkerId(name), node=name, filter=FilterName(name), reason="why") for name in filters
    )
    why = NoCandidate(model="m", exclusions=Exclusions(exclusions))
    return Shed(request_id=RequestId("r"), code=ShedCode(code), reason=why.reasons(), no_candidate=why)


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (shed("unknown_model"), 404, "model_not_found"),
        (shed("rate_limited"), 429, "rate_limit_exceeded"),
        (shed("deadline"), 504, "deadline_exceeded"),
        (shed("overloaded"), 503, "no_capacity"),
        (shed("no_worker", "context"), 400, "context_length_exceeded"),
        (shed("no_worker", "context", "model", "pin"), 400, "context_length_exceeded"),
        (shed("no_worker", "context", "state"), 503, "no_capacity"),
        (shed("no_worker", "capability", "model"), 400, "unsupported_parameter"),
        (shed("no_worker", "pin"), 404, "model_not_found"),
        (shed("no_worker", "model", "quality"), 404, "model_not_found"),
        (shed("no_worker", "model", "quality", "labels"), 503, "no_capacity"),
        (shed("no_worker", "pin", "state"), 503, "no_capacity"),
        (shed("no_worker", "model", "failed"), 503, "no_capacity"),
        (shed("no_worker", "model"), 503, "no_capacity"),
        (shed("out_of_reach"), 503, "no_capacity"),
        (shed("no_worker"), 503, "no_capacity"),
    ],
)
def test_a_refusal_becomes_the_error_of_whoever_is_at_fault(refused: Shed, status: int, code: str) -> None:
    error = error_of(refused)
    assert (error.http_status, error.code) == (status, code)
    assert refused.reason in error.message


@pytest.mark.parametrize(
    ("refused", "again"),
    [
        (shed("overloaded"), True),
        (shed("no_worker", "state"), True),
        (shed("no_worker", "model"), True),
        (shed("no_worker", "failed"), False),
        (shed("no_worker", "pin"), False),
        (shed("out_of_reach"), False),
    ],
)
def test_only_what_waiting_may_cure_says_when_to_come_back(refused: Shed, again: bool) -> None:
    """The rest tells OpenAI's clients, which repeat every 5xx by themselves, that it is of no use."""
    error = error_of(refused)
    headers = dict(error_headers(error))
    assert (b"retry-after" in headers) is again
    assert (headers.get(b"x-should-retry") == b"false") is (not again and error.http_status >= 500)


@pytest.mark.parametrize("code", list(ShedCode))
def test_every_code_has_its_error(code: ShedCode) -> None:
    """A new one cannot be forgotten here."""
    assert "why" in error_of(Shed(request_id=RequestId("r"), code=code, reason="why")).message


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (RefusalCode.INVALID, "invalid_value"),
        (RefusalCode.UNSUPPORTED, "unsupported_parameter"),
    ],
)
def test_what_a_worker_says_the_client_must_change_is_a_400_in_its_words(code: RefusalCode, says: str) -> None:
    """With the parameter it named."""
    refusal = Refusal(request_id=RequestId("r"), attempt=1, code=code, message="too much", parameter="max_tokens")
    error = error_of(Reject(RequestId("r"), refusal))
    assert (error.http_status, error.code, error.message) == (400, says, "too much")


@pytest.mark.parametrize(
    ("counts", "parameter", "says"),
    [
        (
            (1990, 100, 2048),
            "messages",
            (
                "This model's maximum context length is 2048 tokens. However, you requested 2090 tokens "
                "(1990 in the messages, 100 in the completion). Please reduce the length of the messages or completion."
            ),
        ),
        (
            (3000, 0, 2048),
            "prompt",
            (
                "This model's maximum context length is 2048 tokens. However, your prompt resulted in 3000 tokens. "
                "Please reduce the length of the prompt."
            ),
        ),
        ((0, 0, 0), "", "This model's maximum context length is exceeded: too much"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_in_openais_words(
    counts: tuple[int, int, int], parameter: str, says: str
) -> None:
    """Clients cut their history when they read them; the worker counted."""
    prompt, answer, limit = counts
    refusal = Refusal(
        request_id=RequestId("r"), attempt=1, code=RefusalCode.CONTEXT_LENGTH, message="too much", parameter=parameter,
        prompt_tokens=prompt, max_tokens=answer, context_tokens=limit,
    )  # fmt: skip
    error = error_of(Reject(RequestId("r"), refusal))
    assert (error.http_status, error.code, error.message) == (400, "context_length_exceeded", says)


def test_a_limit_that_every_worker_lacks_is_told_in_the_same_words() -> None:
    why = NoCandidate(model="m", exclusions=shed("no_worker", "context").no_candidate.exclusions, longest_context=512)  # type: ignore[union-attr]
    error = error_of(Shed(request_id=RequestId("r"), code=ShedCode.NO_WORKER, reason="why", no_candidate=why))
    assert error.message.startswith("This model's maximum context length is 512 tokens")
