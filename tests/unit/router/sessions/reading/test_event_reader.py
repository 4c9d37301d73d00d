"""Events come as bytes: small ones are read where they arrive, large ones beside the loop, one at a time."""

import asyncio
import threading
from typing import Any

import grpc
import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.validation import OutOfBounds
from router.sessions.reading import event_reader
from router.sessions.reading.event_bounds import read_event
from router.sessions.reading.event_reader import SHORT_BYTES, EventReader


class _Call:
    def __init__(self, *raw: bytes) -> None:
        self._raw = list(raw)

    async def read(self) -> Any:
        return self._raw.pop(0) if self._raw else grpc.aio.EOF


def text_of(size: int) -> bytes:
    return pb.WorkerEvent(leaving=pb.Leaving(reason="x" * size)).SerializeToString()


async def test_large_events_are_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """And small ones are not: a thread costs more than they do."""
    threads: list[bool] = []

    def read(raw: bytes) -> pb.WorkerEvent:
        threads.append(threading.current_thread() is threading.main_thread())
        return read_event(raw)

    monkeypatch.setattr(event_reader, "read_event", read)
    reader = EventReader(_Call(text_of(10), text_of(SHORT_BYTES)), asyncio.Semaphore(1))
    assert [await reader.next() is not None for _ in range(3)] == [True, True, False]
    assert threads == [True, False]


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
async def test_a_first_event_has_a_bound_of_its_own(over: int, fits: bool) -> None:
    """It is looked at before it is built."""
    raw = text_of(1000)
    reader = EventReader(_Call(raw), asyncio.Semaphore(1))
    if fits:
        assert await reader.first(len(raw)) is not None
    else:
        with pytest.raises(OutOfBounds, match=f"hello has {len(raw)} bytes, more than {len(raw) - 1}"):
            await reader.first(len(raw) - over)
