"""What an event would take is reckoned from its bytes: every kind of message, up to its bound and one above."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.validation import OutOfBounds
from router.sessions.reading import event_bounds
from router.sessions.reading.event_bounds import (
    ENROLMENT_BYTES,
    FIELD_BYTES,
    FREE_BYTES,
    MAX_BUILT_BYTES,
    MAX_ENROLMENT_BUILT_BYTES,
    MAX_FIELDS,
    MESSAGE_BYTES,
    read_enrolment,
    read_event,
    reckon,
)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def paths(kind: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways from an event to every kind of message in it that a list can hold, each kind once."""
    for one in kind.fields:
        if one.message_type is None or any(one.message_type is each.message_type for each in above):
            continue
        if one.is_repeated:
            yield (*above, one)
        yield from paths(one.message_type, (*above, one))


LISTS = sorted(paths(pb.WorkerEvent.DESCRIPTOR), key=lambda path: [one.number for one in path])


def empties(path: tuple[Any, ...], count: int) -> bytes:
    """An event with so many empty messages in that list."""
    content = field(path[-1].number, b"") * count
    for one in reversed(path[:-1]):
        content = field(one.number, content)
    return content


def built_by(kind: Any) -> int:
    return MESSAGE_BYTES + FIELD_BYTES * len(kind.fields)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: ".".join(one.name for one in path))
def test_every_list_of_messages_has_a_bound(path: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Just at it the event is read, one more is refused, whatever list it stands in. Here with a bound of a 256th: the
    real one takes the same way.
    """
    most = MAX_BUILT_BYTES // 256
    monkeypatch.setattr(event_bounds, "MAX_BUILT_BYTES", most)
    monkeypatch.setattr(event_bounds, "FREE_BYTES", 0)
    around = sum(built_by(one.message_type) for one in path[:-1]) + built_by(pb.WorkerEvent.DESCRIPTOR)
    fits = (most - around) // built_by(path[-1].message_type)
    assert reckon(empties(path, fits)).built_bytes <= most
    read_event(empties(path, fits))
    with pytest.raises(OutOfBounds, match="would take more than"):
        read_event(empties(path, fits + 1))


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
def test_an_enrolment_is_bounded_before_it_is_built(over: int, fits: bool) -> None:
    """Whoever says it is not known yet. Empty models' files take two bytes and 300."""
    own = built_by(pb.EnrolRequest.DESCRIPTOR)
    count = (MAX_ENROLMENT_BUILT_BYTES - own) // built_by(pb.ModelInstance.DESCRIPTOR) + over
    raw = field(6, b"") * count
    if fits:
        assert len(read_enrolment(raw).files) == count
    else:
        with pytest.raises(OutOfBounds, match="an enrolment of"):
            read_enrolment(raw)


@pytest.mark.parametrize(("size", "fits"), [(ENROLMENT_BYTES, True), (ENROLMENT_BYTES + 1, False)])
def test_an_enrolment_has_so_many_bytes_and_no_more(size: int, fits: bool) -> None:
    """On every port that takes one."""
    token = "x" * (size - 4)
    raw = pb.EnrolRequest(token=token).SerializeToString()
    assert len(raw) == size
    if fits:
        assert read_enrolment(raw).token == token
    else:
        with pytest.raises(OutOfBounds, match=f"of {size} bytes"):
            read_enrolment(raw)


def test_there_are_such_lists_at_every_depth() -> None:
    """The test above has found them."""
    names = {".".join(one.name for one in path) for path in LISTS}
    assert {"step.deltas", "step.deltas.logprobs.top", "hello.models", "following", "files_held.models"} <= names


def test_a_flood_of_small_deltas_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser is not even asked."""
    flood = pb.WorkerEvent(step=pb.Step(deltas=[pb.Delta(request_id="nobody", attempt=1)] * 100_000))
    raw = flood.SerializeToString()
    monkeypatch.setattr(event_bounds, "pb", None, raising=True)
    monkeypatch.setattr(event_bounds, "reckon", lambda _: event_bounds.Reckoned(1, MAX_BUILT_BYTES + 1))
    with pytest.raises(OutOfBounds, match="in memory"):
        read_event(raw)


def test_fields_are_counted_too() -> None:
    """Numbers one by one take little memory and much time."""
    one_id = varint(5 << 3) + b"\1"  # an unpacked token id of a delta
    wrapped = field(2, field(1, one_id * (MAX_FIELDS + 1)))
    with pytest.raises(OutOfBounds, match=f"more than {MAX_FIELDS} fields"):
        read_event(wrapped)
    few = field(2, field(1, one_id * 10_000))
    assert len(read_event(few).step.deltas[0].token_ids) == 10_000


def test_what_an_honest_worker_sends_at_most_fits() -> None:
    """A step at a worker's own bound of a message, 40 bytes for each alternative as it reckons."""
    tops = [pb.TopLogprob(token_id=100_000, token=b"word", logprob=-1.5)] * 20
    one = pb.TokenLogprob(token_id=100_000, token=b"word", logprob=-0.5, top=tops)
    entries = 4 * 2**20 // 40 // 21
    event = pb.WorkerEvent(step=pb.Step(deltas=[pb.Delta(request_id="r", attempt=1, logprobs=[one] * entries)]))
    assert read_event(event.SerializeToString()) == event
    many = pb.WorkerEvent(step=pb.Step(deltas=[pb.Delta(request_id="r" * 24, attempt=1, text="x")] * 8192))
    assert read_event(many.SerializeToString()) == many


@settings(max_examples=60)
@given(raw=st.binary(max_size=400))
def test_garbage_is_refused_or_read(raw: bytes) -> None:
    """Nothing else comes of it, short or long."""
    padded = raw + field(20, bytes(FREE_BYTES))  # a field that nobody knows
    for one in (raw, padded):
        try:
            read_event(one)
        except (OutOfBounds, DecodeError):
            continue


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=60), max_size=40), ids=st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_what_the_parser_reads_is_reckoned_to_its_end(texts: list[str], ids: list[int]) -> None:
    """As many messages as there are."""
    event = pb.WorkerEvent()
    for text in texts:
        delta = event.step.deltas.add(request_id="r", text=text, token_ids=ids)
        delta.logprobs.add(token=text.encode()[:8]).top.add(token_id=1)
    event.following.add(pong=pb.Pong(sequence=3))
    reckoned = reckon(event.SerializeToString())
    assert reckoned.built_bytes == sum(built_by(one.DESCRIPTOR) for one in messages_in(event))


def messages_in(message: Message) -> Iterator[Message]:
    yield message
    for one, value in message.ListFields():
        if one.message_type is not None:
            for inner in value if one.is_repeated else [value]:
                yield from messages_in(inner)
