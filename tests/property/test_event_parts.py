"""A large event in parts says what the whole says, and no part is large."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.events import encode_step
from protos.contract.codec.plain_deltas import decode_plain
from protos.contract.ids import RequestId
from protos.contract.stream import Delta
from protos.contract.validation import MAX_BLOCKS, OutOfBounds
from router.sessions.reading.parts import MAX_ENTRIES, PART_ENTRIES, PLAIN_DELTAS, WHOLE_BYTES, parts_of


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    tops=st.integers(0, 5),
    loaded=st.booleans(),
)
def test_a_step_in_parts_is_the_step(counts: list[int], tops: int, loaded: bool) -> None:
    """Every delta once and in order, the load with the last."""
    step = pb.Step()
    for number, count in enumerate(counts):
        delta = step.deltas.add(request_id=f"r{number}", attempt=1, token_ids=range(count), token_count=count)
        for _ in range(count // 10):
            delta.logprobs.add(token_id=1, top=[pb.TopLogprob(token_id=2)] * tops)
    if loaded:
        step.load.running = 3
    parts = list(parts_of(pb.WorkerEvent(step=step)))
    assert [one for part in parts for one in part.step.deltas] == list(step.deltas)
    assert [part.step.HasField("load") for part in parts] == [False] * (len(parts) - 1) + [loaded]
    assert len(parts) <= 1 + sum(16 + (1 + tops) * (count // 10) + count // 16 for count in counts) // PART_ENTRIES


@settings(max_examples=30)
@given(counts=st.lists(st.integers(0, 40), max_size=700))
def test_a_step_in_columns_in_parts_is_the_step(counts: list[int]) -> None:
    """Every delta once and in order, each with its own token ids."""
    deltas = [
        Delta(
            request_id=RequestId(f"r{n}"),
            attempt=1,
            position=n,
            text="é",
            token_ids=tuple(range(n, n + c)),
            token_count=c,
        )
        for n, c in enumerate(counts)
    ]
    parts = list(parts_of(encode_step(deltas, None, columns=True)))
    assert [one for part in parts for one in decode_plain(part.step.plain)] == deltas
    assert all(len(part.step.plain.texts) <= PLAIN_DELTAS for part in parts) or len(parts) == 1


@settings(max_examples=30)
@given(stored=st.integers(0, 9000), evicted=st.integers(0, 9000), cleared=st.booleans())
def test_a_cache_event_in_parts_is_the_event(stored: int, evicted: int, cleared: bool) -> None:
    """Cleared first, then what went, then what came."""
    cache = pb.CacheEvents(model="m", quantization="q", stored=range(stored), evicted=range(evicted), cleared=cleared)
    parts = [part.cache for part in parts_of(pb.WorkerEvent(cache=cache))]
    assert [block for part in parts for block in part.stored] == list(range(stored))
    assert [block for part in parts for block in part.evicted] == list(range(evicted))
    assert [part.cleared for part in parts].count(True) == int(cleared)
    if cleared:
        assert parts[0].cleared
    assert all(part.model == "m" for part in parts)
    if cache.ByteSize() > WHOLE_BYTES:
        assert all(len(part.stored) + len(part.evicted) <= PART_ENTRIES for part in parts)


@pytest.mark.parametrize("tops", [0, 1, 20])
def test_a_delta_has_so_many_log_probabilities_and_no_more(tops: int) -> None:
    """Just at the bound it is handled, just above refused by name."""
    most = MAX_ENTRIES // (1 + tops)
    for count, fits in ((most, True), (most + 1, False)):
        one = pb.TokenLogprob(token_id=1, token=b"x", top=[pb.TopLogprob(token_id=2)] * tops)
        event = pb.WorkerEvent(step=pb.Step(deltas=[pb.Delta(request_id="r", logprobs=[one] * count)]))
        if fits:
            assert len(next(iter(parts_of(event))).step.deltas) == 1
        else:
            with pytest.raises(OutOfBounds, match="log-probabilities"):
                list(parts_of(event))


def test_a_cache_event_names_so_many_blocks_and_no_more() -> None:
    """The bound is on the whole, not on its parts."""
    assert (
        sum(len(p.cache.stored) for p in parts_of(pb.WorkerEvent(cache=pb.CacheEvents(stored=range(MAX_BLOCKS))))) > 0
    )
    with pytest.raises(OutOfBounds, match="blocks"):
        list(parts_of(pb.WorkerEvent(cache=pb.CacheEvents(stored=range(MAX_BLOCKS + 1)))))
