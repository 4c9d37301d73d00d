"""A large event in parts, so that none holds the event loop for long: everybody's tokens pass through it.

A worker that was held up sends everything at once, and one that means harm sends the most that fits a message. Between
two parts the loop serves others.
"""

from collections.abc import Iterator
from functools import partial

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.plain_deltas import parts_of_plain
from protos.contract.validation import OutOfBounds, check_cache

WHOLE_BYTES = 16 * 1024
"""An event up to this size is handled whole."""

PART_ENTRIES = 2048
"""Token ids, log-probabilities and blocks that one part holds, about."""

PLAIN_DELTAS = PART_ENTRIES // 16
"""In one part of a step in columns."""

MAX_ENTRIES = 32_768
"""Log-probabilities and their alternatives in one delta. A worker joins what waits of a request: seconds, at most."""


def parts_of(event: pb.WorkerEvent) -> Iterator[pb.WorkerEvent]:
    """The event and those that follow it, each whole or as events that together say the same. Raises OutOfBounds for a
    delta that is too much at once.
    """
    yield from _parts(event)
    for one in event.following:
        yield from _parts(one)


def _parts(event: pb.WorkerEvent) -> Iterator[pb.WorkerEvent]:
    if event.ByteSize() <= WHOLE_BYTES:
        yield event
        return
    kind = event.WhichOneof("event")
    if kind == "step":
        yield from _steps(event.step)
    elif kind == "cache":
        yield from _cache_events(event.cache)
    else:
        yield event


def _steps(step: pb.Step) -> Iterator[pb.WorkerEvent]:
    """The load goes with the last part: it tells of the state after all of them."""
    if step.HasField("plain"):
        for columns in parts_of_plain(step.plain, PLAIN_DELTAS):
            yield pb.WorkerEvent(step=pb.Step(plain=columns))
    part: list[pb.Delta] = []
    entries = 0
    for delta in step.deltas:
        part.append(delta)
        entries += _entries(delta)
        if entries >= PART_ENTRIES:
            yield pb.WorkerEvent(step=pb.Step(deltas=part))
            part, entries = [], 0
    yield pb.WorkerEvent(step=pb.Step(deltas=part, load=step.load if step.HasField("load") else None))


def _entries(delta: pb.Delta) -> int:
    logprobs = len(delta.logprobs)
    if logprobs <= MAX_ENTRIES:
        logprobs += sum(len(one.top) for one in delta.logprobs)
    if logprobs > MAX_ENTRIES:
        raise OutOfBounds(f"a delta has {logprobs} log-probabilities, more than {MAX_ENTRIES}")
    return 16 + logprobs + len(delta.token_ids) // 16


def _cache_events(cache: pb.CacheEvents) -> Iterator[pb.WorkerEvent]:
    """In order: what was cleared, what went, what came."""
    check_cache(cache)
    about = partial(pb.CacheEvents, model=cache.model, quantization=cache.quantization)
    if cache.cleared:
        yield pb.WorkerEvent(cache=about(cleared=True))
    for start in range(0, len(cache.evicted), PART_ENTRIES):
        yield pb.WorkerEvent(cache=about(evicted=cache.evicted[start : start + PART_ENTRIES]))
    for start in range(0, len(cache.stored), PART_ENTRIES):
        yield pb.WorkerEvent(cache=about(stored=cache.stored[start : start + PART_ENTRIES]))
