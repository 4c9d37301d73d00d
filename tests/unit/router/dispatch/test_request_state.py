"""What the client is told of a request's way."""

from typing import cast

from protos.contract.ids import RequestId, WorkerId
from protos.contract.request import Sampling
from protos.contract.stream import Accepted, Delta, FinishReason, Usage
from router.dispatch.answer_memory import AnswerMemory
from router.dispatch.request_state import RequestState
from router.domain.placement import Placed
from router.domain.request import InferenceRequest


class _Asked:
    """The part of a request that its state looks at."""

    request_id = RequestId("r")
    sampling = Sampling(max_tokens=8)


def state() -> RequestState:
    return RequestState(cast("InferenceRequest", _Asked()), AnswerMemory(2**20).open())


def placed(name: str, quantization: str) -> Placed:
    return Placed(worker_id=WorkerId(f"id-{name}"), node=name, model="m", quantization=quantization)


def accepted(attempt: int) -> Accepted:
    return Accepted(request_id=RequestId("r"), attempt=attempt, prompt_tokens=5, cached_tokens=0)


def said(attempt: int, text: str, end: FinishReason | None = None) -> Delta:
    tokens = len(text.split())
    usage = None if end is None else Usage(prompt_tokens=5, completion_tokens=tokens)
    return Delta(
        request_id=RequestId("r"),
        attempt=attempt,
        position=0,
        text=text,
        token_count=tokens,
        text_tokens=tokens,
        finish_reason=end,
        usage=usage,
    )


def test_a_worker_lost_before_its_first_token_is_disclosed_too() -> None:
    """The headers named it: the last event must name the one that answered."""
    going = state()
    going.accepted(placed("mac", "q4_0"), accepted(1), "")
    going.failed(placed("mac", "q4_0"), "the connection broke")
    move = going.accepted(placed("gpu", "q8_0"), accepted(2), "")
    assert move is not None
    assert (move.from_node, move.to_quantization, move.at_token) == ("mac", "q8_0", 0)
    final = said(2, "all of it", FinishReason.STOP)
    progress = going.absorb([final], now=1.0)
    last = going.last_chunk(progress, final)
    assert last.continuations == (move,)
    assert last.usage == Usage(prompt_tokens=5, completion_tokens=3)


def test_a_worker_that_never_accepted_leaves_no_trace() -> None:
    """Nobody was told of it."""
    going = state()
    going.failed(placed("mac", "q4_0"), "the connection broke")
    assert going.accepted(placed("gpu", "q8_0"), accepted(2), "") is None


def test_usage_counts_what_every_worker_said_once() -> None:
    """Tokens of the broken attempt that are with the client, and those of the one that finished."""
    going = state()
    going.accepted(placed("mac", "q4_0"), accepted(1), "")
    going.absorb([said(1, "two words ")], now=1.0)
    going.transcript.settle()
    move = going.accepted(placed("gpu", "q8_0"), accepted(2), "")
    assert move is not None
    assert move.at_token == 2
    final = said(2, "and three more", FinishReason.LENGTH)
    last = going.last_chunk(going.absorb([final], now=2.0), final)
    assert last.usage is not None
    assert last.usage.completion_tokens == 5


def test_plain_text_takes_the_short_way_and_counts_as_sent() -> None:
    """A worker that goes on after it starts where the client is, whichever way the text went."""
    going, poured = state(), list[tuple[str, int]]()
    going.accepted(placed("mac", "q4_0"), accepted(1), "")
    assert not going.passes(said(1, "too early"))  # the client's stream has not begun
    going.pour = lambda text, tokens: poured.append((text, tokens)) is None
    assert going.passes(said(1, "one two"))
    assert poured == [("one two", 2)]
    assert going.transcript.output_tokens == 2
    going.transcript.settle()
    resume = going.transcript.resume()
    assert resume is not None
    assert (resume.text, resume.output_tokens) == ("one two", 2)


def test_a_client_that_cannot_take_it_now_gets_it_the_long_way() -> None:
    """Nothing is counted twice."""
    going = state()
    going.accepted(placed("mac", "q4_0"), accepted(1), "")
    going.pour = lambda _text, _tokens: False
    assert not going.passes(said(1, "one"))
    assert going.transcript.output_tokens == 0
    assert going.absorb([said(1, "one")], now=1.0).text == "one"
