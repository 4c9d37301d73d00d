"""The outbox: order, joining and bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.events import Pong
from protos.contract.stream import Delta, FinishReason, Returned
from workers.session.outbox import MESSAGE_BYTES, Batch, Outbox, OutboxFull


def delta(job: str, position: int, text: str, *, last: bool = False) -> Delta:
    return Delta(
        request_id=job,
        attempt=1,
        position=position,
        text=text,
        token_count=len(text),
        token_ids=tuple(map(ord, text)),
        text_tokens=position + len(text),
        finish_reason=FinishReason.STOP if last else None,
    )


def drain(outbox: Outbox) -> list[object]:
    return list(iter(outbox.take, None))


def test_deltas_of_one_job_are_joined_while_they_wait() -> None:
    """Same text, same tokens, position of the first, end of the last."""
    outbox = Outbox()
    outbox.put_delta(delta("a", 0, "he"))
    outbox.put_delta(delta("b", 0, "x"))
    outbox.put_delta(delta("a", 2, "llo", last=True))
    (batch,) = drain(outbox)
    assert isinstance(batch, Batch)
    first, second = batch.deltas
    assert (first.position, first.text, first.token_count, first.text_tokens) == (0, "hello", 5, 5)
    assert first.token_ids == tuple(map(ord, "hello"))
    assert first.finish_reason is FinishReason.STOP
    assert second.request_id == "b"


def test_an_event_stands_between_the_deltas_before_and_after_it() -> None:
    """What a job said before it was returned comes before the return."""
    outbox = Outbox()
    outbox.put_delta(delta("a", 0, "x"))
    returned = Returned(request_id="a", attempt=1, reason="")
    outbox.put_event(returned)
    outbox.put_delta(delta("a", 1, "y"))
    first, second, third = drain(outbox)
    assert isinstance(first, Batch)
    assert second is returned
    assert isinstance(third, Batch)
    assert first.deltas[0].text + third.deltas[0].text == "xy"


def test_a_job_has_one_delta_in_a_step_whatever_events_stood_between() -> None:
    """What goes out before an event leaves the slot behind that event open: two of one job would lose their order."""
    outbox = Outbox()
    outbox.put_delta(delta("a", 0, "x"))
    outbox.put_event(Pong(sequence=1))
    outbox.put_delta(delta("a", 1, "y"))
    assert isinstance(outbox.take(), Batch)
    outbox.put_delta(delta("a", 2, "z", last=True))
    event, batch = drain(outbox)
    assert isinstance(event, Pong)
    assert isinstance(batch, Batch)
    assert [(one.position, one.text) for one in batch.deltas] == [(1, "yz")]


def test_at_the_bound_it_says_so() -> None:
    """Bytes of output and number of messages are both bounded."""
    small = Outbox(max_items=2, max_bytes=1000)
    small.put_event(Pong(sequence=1))
    small.put_event(Pong(sequence=2))
    with pytest.raises(OutboxFull, match="does not read"):
        small.put_event(Pong(sequence=3))
    with pytest.raises(OutboxFull, match="does not read"):
        small.put_delta(delta("a", 0, "x" * 1000))
    assert len(small) == 2


def test_a_message_stays_below_the_contract_limit() -> None:
    """A job that wrote a lot while nobody read comes in several messages."""
    outbox = Outbox()
    for number in range(100):
        outbox.put_delta(delta("a", number * 40_000, "x" * 40_000))
    batches = drain(outbox)
    assert len(batches) > 1
    for batch in batches:
        assert isinstance(batch, Batch)
        assert sum(len(one.text) for one in batch.deltas) * 4 <= MESSAGE_BYTES
    assert outbox.size_bytes == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.text(min_size=1, max_size=4)),
            st.just("take"),
            st.just("event"),
        )
    )
)
def test_nothing_is_lost_doubled_or_reordered(script: list[object]) -> None:
    """Whatever the interleaving of writing and reading, each job's text arrives once and in order."""
    outbox = Outbox()
    written: dict[str, str] = dict.fromkeys("abc", "")
    read: dict[str, str] = dict.fromkeys("abc", "")
    events = 0

    def take() -> bool:
        nonlocal events
        match outbox.take():
            case None:
                return False
            case Batch(deltas=deltas):
                assert len({one.request_id for one in deltas}) == len(deltas)
                for one in deltas:
                    assert one.position == len(read[one.request_id])
                    read[one.request_id] += one.text
            case Pong(sequence=sequence):
                assert sequence == events
                events += 1
        return True

    sent = 0
    for action in script:
        if action == "take":
            take()
        elif action == "event":
            outbox.put_event(Pong(sequence=sent))
            sent += 1
        else:
            job, text = action  # type: ignore[misc]
            outbox.put_delta(delta(job, len(written[job]), text))
            written[job] += text
    while take():
        pass
    assert read == written
    assert events == sent
    assert (len(outbox), outbox.size_bytes) == (0, 0)
