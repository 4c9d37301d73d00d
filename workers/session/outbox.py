"""What waits to go to one router replica: bounded, and deltas of one job melt into one while they wait.

The engine never waits for a router. While the router reads, a message carries one step; when it stops reading,
each job's deltas are joined, so that what waits grows with the text and not with the number of steps; at the
bound the session is given up (``OutboxFull``) and the router hears that its session broke.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from protos.contract.events import WorkerEvent
from protos.contract.stream import Delta

MESSAGE_BYTES = 4 * 2**20
"""Step messages are cut at about this size; the contract allows 16 MiB, the estimate below is rough."""


class OutboxFull(Exception):
    """The router has not read for so long that the bound is reached."""


@dataclass(slots=True)
class _Slot:
    """Deltas of one job that wait together."""

    parts: list[Delta] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Deltas that go out in one step message, one per job: a step in columns keeps no order between two."""

    deltas: tuple[Delta, ...]


def merge(parts: list[Delta]) -> Delta:
    """Consecutive deltas of one job as one: same text, same tokens, position of the first."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0], parts[-1]
    return Delta(
        request_id=first.request_id,
        attempt=first.attempt,
        position=first.position,
        text="".join(one.text for one in parts),
        reasoning="".join(one.reasoning for one in parts),
        token_ids=tuple(token for one in parts for token in one.token_ids),
        token_count=sum(one.token_count for one in parts),
        text_tokens=last.text_tokens,
        finish_reason=last.finish_reason,
        usage=last.usage,
        logprobs=tuple(entry for one in parts for entry in one.logprobs),
        error=last.error,
        tool_calls=tuple(call for one in parts for call in one.tool_calls),
        raw="".join(one.raw for one in parts),
        stopped_by=last.stopped_by,
        echo="".join(one.echo for one in parts),
        echo_logprobs=tuple(entry for one in parts for entry in one.echo_logprobs),
        vectors=last.vectors,
    )


def estimated_bytes(delta: Delta) -> int:
    """About how large a delta is on the wire; an upper bound for text (4 bytes a character)."""
    alternatives = sum(len(one.top) + 1 for one in (*delta.logprobs, *delta.echo_logprobs))
    calls = sum(len(one.arguments) + len(one.name) + len(one.id) + 8 for one in delta.tool_calls)
    return (
        64
        + 4 * (len(delta.text) + len(delta.reasoning) + len(delta.raw) + len(delta.echo) + calls)
        + 4 * sum(len(one) + 2 for one in delta.vectors)
        + 5 * len(delta.token_ids)
        + 40 * alternatives
        + 4 * len(delta.error)
    )


class Outbox:
    """Events and deltas in order. Order holds per job, and between a job's deltas and events that follow them."""

    def __init__(self, *, max_items: int = 8192, max_bytes: int = 64 * 2**20) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[WorkerEvent | _Slot] = deque()
        self._open: dict[tuple[str, int], _Slot] = {}  # where a job's next delta may still be joined
        self._size_bytes = 0

    def __len__(self) -> int:
        """Items that wait: events, and jobs with deltas."""
        return len(self._items)

    @property
    def size_bytes(self) -> int:
        """Estimated size of the deltas that wait."""
        return self._size_bytes

    def put_event(self, event: WorkerEvent) -> None:
        """Queue an event. Raises OutboxFull at the bound."""
        if len(self._items) >= self._max_items:
            raise OutboxFull(f"{len(self._items)} messages wait for a router that does not read")
        self._items.append(event)
        # Deltas after this event must not be joined to ones before it: a job's last words and its return keep order.
        self._open.clear()

    def put_delta(self, delta: Delta) -> None:
        """Queue a delta, joined to the job's waiting one. Raises OutboxFull at the bound."""
        size = estimated_bytes(delta)
        if self._size_bytes + size > self._max_bytes:
            raise OutboxFull(f"{self._size_bytes} bytes of output wait for a router that does not read")
        key = (delta.request_id, delta.attempt)
        slot = self._open.get(key)
        # A slot never outgrows one message, whatever its job wrote in the meantime.
        if slot is None or slot.size_bytes + size > MESSAGE_BYTES:
            if len(self._items) >= self._max_items:
                raise OutboxFull(f"{len(self._items)} messages wait for a router that does not read")
            slot = _Slot()
            self._items.append(slot)
            self._open[key] = slot
        slot.parts.append(delta)
        slot.size_bytes += size
        self._size_bytes += size

    def take_all(self, kind: type[WorkerEvent]) -> Iterator[WorkerEvent]:
        """The next messages, as long as they are events of this kind."""
        while self._items and isinstance(self._items[0], kind):
            event = self._items.popleft()
            assert not isinstance(event, _Slot)
            yield event

    def take(self) -> WorkerEvent | Batch | None:
        """The next message: an event, or all deltas up to the next event or the message size. None: empty."""
        if not self._items:
            return None
        head = self._items.popleft()
        if not isinstance(head, _Slot):
            return head
        slots, size = [head], head.size_bytes
        while self._items and isinstance(self._items[0], _Slot) and size + self._items[0].size_bytes <= MESSAGE_BYTES:
            slot = self._items.popleft()
            assert isinstance(slot, _Slot)
            slots.append(slot)
            size += slot.size_bytes
        self._size_bytes -= size
        for slot in slots:
            key = (slot.parts[0].request_id, slot.parts[0].attempt)
            if self._open.get(key) is slot:  # another may be open already, behind an event
                del self._open[key]
        return Batch(deltas=tuple(merge(slot.parts) for slot in slots))
