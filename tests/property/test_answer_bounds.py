"""What a worker may say of one answer: just within a bound it is believed, just over it the attempt is lost by name."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import AttemptKey, RequestId, WorkerId
from protos.contract.stream import Accepted, Delta, FinishReason, TokenLogprob, TopLogprob, Usage
from router.dispatch.answer_bounds import (
    MESSAGE_TOKENS,
    TEMPLATE_TOKENS,
    USAGE_SLACK,
    AnswerBounds,
    most_prompt_tokens,
    weight_of,
)
from router.dispatch.answer_memory import AnswerMemory
from router.dispatch.attempt import Attempt
from router.domain.placement import Placed
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import TooMuchHeld
from router.fleet.session import Session
from router.scheduling.placement.text_blocks import serialise
from tests.support.fleets import request

PLACED = Placed(worker_id=WorkerId("w"), node="w", model="m", quantization="q8_0")


class _Session:
    def close(self, key: AttemptKey) -> None:
        """Nothing is delivered any more."""

    def abort(self, key: AttemptKey) -> None:
        """The worker is told."""


def _attempt(
    memory: AnswerMemory | None = None, *, tokens: int = 2**20, prompt: int = 100, size: int = 2**20
) -> Attempt:
    return Attempt(
        request_id=RequestId("r"),
        number=1,
        placed=PLACED,
        session=cast("Session", _Session()),
        bounds=AnswerBounds(token_budget=tokens, prompt_tokens=prompt, answer_bytes=size),
        account=(AnswerMemory(2**40) if memory is None else memory).open(),
    )


def _waiting(attempt: Attempt) -> list[AttemptEvent]:
    return list(attempt._events)


def _accepted(prompt: int, cached: int) -> Accepted:
    return Accepted(request_id=RequestId("r"), attempt=1, prompt_tokens=prompt, cached_tokens=cached)


def _last(prompt: int, cached: int, completion: int) -> Delta:
    usage = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
    return Delta(request_id=RequestId("r"), attempt=1, position=0, finish_reason=FinishReason.STOP, usage=usage)


async def _says(event: AttemptEvent, **bounds: int) -> str:
    """The reason an attempt is lost for, empty when the event is believed."""
    attempt = _attempt(**bounds)
    attempt.on_event(event)
    (heard,) = _waiting(attempt)
    assert isinstance(heard, SessionLost) or heard == event
    return heard.reason if isinstance(heard, SessionLost) and heard.breach else ""


@given(bound=st.integers(1, 2**31), over=st.integers(1, 2**32))
@pytest.mark.parametrize("kind", ["accepted", "usage"])
async def test_a_prompt_has_no_more_tokens_than_it_can_have(kind: str, bound: int, over: int) -> None:
    """Whether it is counted before the work or charged after it."""
    for count, names in ((bound, ""), (bound + over, "prompt tokens")):
        event = _accepted(count, 0) if kind == "accepted" else _last(count, 0, 1)
        reason = await _says(event, prompt=bound)
        assert (names in reason) if names else not reason


@given(prompt=st.integers(1, 100), over=st.integers(1, 2**32))
@pytest.mark.parametrize("kind", ["accepted", "usage"])
async def test_no_more_of_a_prompt_is_cached_than_there_is_of_it(kind: str, prompt: int, over: int) -> None:
    """A tenant's bill and the measured hit rate both hang on it."""
    for cached, names in ((prompt, ""), (prompt + over, "in its cache")):
        event = _accepted(prompt, cached) if kind == "accepted" else _last(prompt, cached, 1)
        reason = await _says(event)
        assert (names in reason) if names else not reason


@given(budget=st.integers(1, 2**20), over=st.integers(1, 2**31))
async def test_no_more_output_is_charged_than_was_asked_for(budget: int, over: int) -> None:
    """Servers differ by an end marker or two, no more."""
    assert not await _says(_last(1, 0, budget + USAGE_SLACK), tokens=budget)
    assert "charges for more" in await _says(_last(1, 0, budget + USAGE_SLACK + over), tokens=budget)


@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=20))
async def test_an_answer_weighs_no_more_than_one_may(texts: list[str]) -> None:
    """Exactly at the bound it is whole; with a byte less the last piece is refused."""
    deltas = [
        Delta(request_id=RequestId("r"), attempt=1, position=i, text=t, token_count=1) for i, t in enumerate(texts)
    ]
    whole = sum(map(weight_of, deltas))
    for size, fits in ((whole, True), (whole - 1, False)):
        attempt = _attempt(size=size)
        for one in deltas:
            attempt.on_event(one)
        last = _waiting(attempt)[-1]
        assert (last == deltas[-1]) if fits else (isinstance(last, SessionLost) and "bytes one may have" in last.reason)


@given(tops=st.integers(0, 64), size=st.integers(0, 1024))
def test_log_probabilities_weigh_at_least_their_bytes(tops: int, size: int) -> None:
    """What a worker makes the router hold is what is counted."""
    plain = Delta(request_id=RequestId("r"), attempt=1, position=0, token_count=1)
    top = TopLogprob(token_id=1, token=b"x" * size, logprob=-1.0)
    one = TokenLogprob(token_id=1, token=b"x" * size, logprob=-1.0, top=(top,) * tops)
    heavy = Delta(request_id=RequestId("r"), attempt=1, position=0, token_count=1, logprobs=(one,))
    assert weight_of(heavy) - weight_of(plain) >= (tops + 1) * size


@given(text=st.text(max_size=2000), ids=st.lists(st.integers(0, 2**31 - 1), max_size=50).map(tuple))
def test_every_prompt_has_room_for_a_token_a_byte_and_its_template(text: str, ids: tuple[int, ...]) -> None:
    """What a byte-level tokenizer would count of any text is within the bound."""
    size = len(text.encode("utf-8", "surrogatepass"))
    assert most_prompt_tokens(request(prompt=text, prompt_bytes=len(serialise(text)))) >= size + TEMPLATE_TOKENS
    assert most_prompt_tokens(request(prompt=ids, prompt_bytes=len(serialise(ids)))) == len(ids) + TEMPLATE_TOKENS
    assert MESSAGE_TOKENS > 0


@given(sizes=st.lists(st.integers(1, 400), min_size=2, max_size=12, unique=True))
async def test_where_all_answers_are_too_much_the_largest_gives_way(sizes: list[int]) -> None:
    """Not the one that happens to come next; what it held is free at once."""
    attempts = []
    weights = []
    for size in sizes:
        one = Delta(request_id=RequestId("r"), attempt=1, position=0, text="x" * size, token_count=1)
        weights.append(weight_of(one))
        attempts.append((size, one))
    memory = AnswerMemory(sum(weights) + 256 * len(sizes) - 1)  # a byte short of all
    made = [_attempt(memory) for _ in attempts]
    for attempt, (_, one) in zip(made, attempts, strict=True):
        attempt.on_event(one)
    largest = sizes.index(max(sizes))
    for index, attempt in enumerate(made):
        if index == largest:
            with pytest.raises(TooMuchHeld, match="answers under way"):
                await attempt.drain()
        else:
            assert len(await attempt.drain()) == 1
        attempt.end()
        attempt._account.close()
    assert memory.held == 0
    assert len(memory) == 0
