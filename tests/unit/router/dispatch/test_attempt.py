"""What a worker may send for one attempt: tokens that follow one another, within the budget, and not much beside."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from protos.contract.ids import AttemptKey, RequestId, WorkerId
from protos.contract.stream import Delta, FinishReason, TokenLogprob, TopLogprob, Usage
from protos.contract.tools import ToolCallDelta
from router.dispatch.answer_bounds import (
    CHARACTERS_PER_TOKEN,
    MAX_ALTERNATIVES,
    MAX_TOKEN_BYTES,
    TEXT_SLACK,
    USAGE_SLACK,
    AnswerBounds,
    weight_of,
)
from router.dispatch.answer_memory import AnswerAccount, AnswerMemory
from router.dispatch.attempt import Attempt
from router.domain.placement import Placed
from router.domain.stream import AttemptEvent, SessionLost
from router.fleet.session import Session

BUDGET = 10
PROMPT = 100


class _Session:
    """Remembers what was closed."""

    def __init__(self) -> None:
        self.closed: list[AttemptKey] = []

    def close(self, key: AttemptKey) -> None:
        self.closed.append(key)


def attempt(session: _Session, account: AnswerAccount | None = None) -> Attempt:
    placed = Placed(worker_id=WorkerId("w"), node="w", model="m", quantization="q8_0")
    return Attempt(
        request_id=RequestId("r"),
        number=1,
        placed=placed,
        session=cast("Session", session),
        bounds=AnswerBounds(token_budget=BUDGET, prompt_tokens=PROMPT, answer_bytes=2**20),
        account=account or AnswerMemory(2**20).open(),
    )


def delta(position: int = 0, **more: Any) -> Delta:
    return Delta(request_id=RequestId("r"), attempt=1, position=position, **more)


ALTERNATIVE = TopLogprob(token_id=1, token=b"x", logprob=-1.0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (delta(1, token_count=1), "spoke at token 1"),
        (delta(token_count=BUDGET + 1), "more than the 10 tokens"),
        (delta(text="x" * (TEXT_SLACK + 1)), "more text than 0 tokens"),
        (delta(token_count=1, text="x" * (CHARACTERS_PER_TOKEN + TEXT_SLACK + 1)), "more text than 1 tokens"),
        (delta(token_count=2, token_ids=(1, 2, 3)), "particulars"),
        (delta(token_count=1, text_tokens=4_000_000_000), "particulars"),
        (
            delta(
                token_count=1,
                logprobs=(
                    TokenLogprob(token_id=1, token=b"x", logprob=-1.0, top=(ALTERNATIVE,) * (MAX_ALTERNATIVES + 1)),
                ),
            ),
            "alternatives",
        ),
        (
            delta(
                token_count=1,
                logprobs=(TokenLogprob(token_id=1, token=b"x" * (MAX_TOKEN_BYTES + 1), logprob=-1.0),),
            ),
            "a token of more than",
        ),
        (
            delta(
                token_count=1,
                finish_reason=FinishReason.STOP,
                usage=Usage(prompt_tokens=1, completion_tokens=BUDGET + USAGE_SLACK + 1),
            ),
            "charges",
        ),
        (delta(raw="x" * TEXT_SLACK, tool_calls=(ToolCallDelta(index=0, arguments="x"),)), "more text than 0 tokens"),
        (delta(echo="x" * 2**21), "an answer of more than"),
        (delta(echo_logprobs=(TokenLogprob(token_id=1, token=b"x", logprob=0.0),) * (PROMPT + 1)), "repeats a prompt"),
        (delta(vectors=((0.5,),)), "more than 0 vectors"),
    ],
)
async def test_a_worker_that_oversteps_loses_the_attempt(bad: Delta, why: str) -> None:
    """The request goes on elsewhere; nothing of the bad delta is passed on."""
    session = _Session()
    one = attempt(session)
    one.on_event(bad)
    (event,) = await one.drain()
    assert isinstance(event, SessionLost)
    assert why in event.reason
    assert event.breach
    assert session.closed == [("r", 1)]


async def test_a_flood_of_nothing_is_not_kept() -> None:
    """Deltas without tokens, text or end take no room."""
    one = attempt(_Session())
    for _ in range(10_000):
        one.on_event(delta())
    one.on_event(delta(token_count=1, text="x"))
    assert len(await one.drain()) == 1


async def test_what_is_in_order_passes_to_the_end() -> None:
    """To the last token of the budget."""
    one = attempt(_Session())
    one.on_event(delta(token_count=4, token_ids=(1, 2, 3, 4), text="four", text_tokens=4))
    one.on_event(delta(4, token_count=6, text="six", text_tokens=10, finish_reason=FinishReason.LENGTH))
    assert [event.text for event in await one.drain() if isinstance(event, Delta)] == ["four", "six"]


async def _reads(one: Attempt, passes: Callable[[Delta], bool]) -> "asyncio.Task[list[AttemptEvent]]":
    """A reader that waits, and offers the short way."""
    task = asyncio.create_task(one.drain(passes))
    await asyncio.sleep(0)
    return task


async def test_what_takes_the_short_way_wakes_nobody_and_what_follows_a_longer_one_stays_behind_it() -> None:
    """Order is kept: once something waits in the mailbox, so does the rest."""
    one, passed = attempt(_Session()), list[str]()

    def passes(event: Delta) -> bool:
        passed.append(event.text)
        return event.text != "long"

    reading = await _reads(one, passes)
    for position, text in enumerate(("a", "b", "long", "c")):
        one.on_event(delta(position, token_count=1, text=text))
    assert passed == ["a", "b", "long"]
    assert [event.text for event in await reading if isinstance(event, Delta)] == ["long", "c"]
    one.on_event(delta(4, token_count=1, text="d"))  # nobody reads just now
    assert passed == ["a", "b", "long"]


async def test_the_short_way_has_the_same_bounds_and_is_charged_the_same() -> None:
    """A worker that oversteps on it loses the attempt; what passed is kept, and charged."""
    account = AnswerMemory(2**20).open()
    one = attempt(_Session(), account)
    reading = await _reads(one, lambda _: True)
    one.on_event(delta(token_count=1, text="abc"))
    assert account.held == weight_of(delta(token_count=1, text="abc"))
    one.on_event(delta(5, token_count=1, text="x"))
    (event,) = await reading
    assert isinstance(event, SessionLost)
    assert "spoke at token 5" in event.reason


@pytest.mark.parametrize(
    "more",
    [
        {"finish_reason": FinishReason.STOP},
        {"reasoning": "hm"},
        {"raw": "<think>"},
        {"echo": "prompt"},
        {"tool_calls": (ToolCallDelta(index=0, name="f"),)},
        {"logprobs": (TokenLogprob(token_id=1, token=b"a", logprob=-1.0),)},
    ],
)
async def test_whatever_is_more_than_text_takes_the_long_way(more: dict[str, Any]) -> None:
    """Ends, thoughts, calls and probabilities are the request's own business."""
    one = attempt(_Session())
    reading = await _reads(one, lambda _: True)
    one.on_event(delta(token_count=1, text="x", **more))
    assert len(await reading) == 1
