"""Answers that their askers may come back to, inside one transaction: each for a time, all within a bound of bytes.

An owner's answers stand in the order in which they came (kind ``response_place``), so that the oldest can go first.
Where all together pass the bound, that of the owner who holds most goes: nobody pushes out what little others have.
"""

import msgspec

from router.state.backend import Transaction
from router.state.rows import ResponseRow

MAX_RESPONSES = 10_000
EACH_BYTES = 4 * 1024 * 1024
SWEPT_EVERY_S = 60.0
"""How long an answer may lie past its time, while others come and are asked for; nobody gets it then."""

_VALUE, _PLACE, _QUEUE, _SUM = "response", "response_place", "response_queue", "response_sum"

_encode = msgspec.json.encode


class _Place(msgspec.Struct, frozen=True):
    response_id: str
    expires_at: float


class _Queue(msgspec.Struct, frozen=True):
    """One owner's: places from ``first`` up to ``next``, of which some may have been deleted."""

    first: int = 0
    next: int = 0
    bytes: int = 0


class _Sum(msgspec.Struct, frozen=True):
    bytes: int = 0
    count: int = 0
    swept_at: float = 0.0


def keep(tx: Transaction, owner: str, row: ResponseRow, limit_bytes: int, now: float) -> bool:
    """Keep one; False when it alone is too large. ``owner``: the id of a key, without slashes."""
    value = _encode(row)
    if len(value) > min(EACH_BYTES, limit_bytes):
        return False
    sweep(tx, now)
    queue = _queue(tx, owner)
    tx.put(_VALUE, f"{owner}/{row.response_id}", value)
    place = _Place(response_id=row.response_id, expires_at=row.expires_at)
    tx.put(_PLACE, _place_key(owner, queue.next), _encode(place))
    _put_queue(tx, owner, _Queue(queue.first, queue.next + 1, queue.bytes + len(value)))
    _add(tx, len(value), 1)
    while (total := _sum(tx)).bytes > limit_bytes or total.count > MAX_RESPONSES:
        largest = max(_queues(tx), key=lambda one: one[1].bytes)
        _drop_first(tx, *largest)
    return True


def find(tx: Transaction, owner: str, response_id: str, now: float) -> ResponseRow | None:
    """One of this owner's whose time is not over."""
    value = tx.get(_VALUE, f"{owner}/{response_id}")
    row = None if value is None else msgspec.json.decode(value, type=ResponseRow)
    return row if row is not None and row.expires_at > now else None


def forget(tx: Transaction, owner: str, response_id: str, now: float) -> bool:
    """Erase one of this owner's; False when there is none."""
    there = find(tx, owner, response_id, now) is not None
    queue = _queue(tx, owner)
    _put_queue(tx, owner, msgspec.structs.replace(queue, bytes=queue.bytes - _erase(tx, owner, response_id)))
    return there


def sweep(tx: Transaction, now: float) -> None:
    """Erase all whose time is over; looks at most once in ``SWEPT_EVERY_S``."""
    total = _sum(tx)
    if 0 <= now - total.swept_at < SWEPT_EVERY_S:
        return
    tx.put(_SUM, "all", _encode(msgspec.structs.replace(total, swept_at=now)))
    for owner, queue in _queues(tx):
        left: _Queue | None = queue
        while left is not None and _expired(tx, owner, left.first, now):
            left = _drop_first(tx, owner, left)


def _expired(tx: Transaction, owner: str, number: int, now: float) -> bool:
    value = tx.get(_PLACE, _place_key(owner, number))
    return value is None or msgspec.json.decode(value, type=_Place).expires_at <= now


def _drop_first(tx: Transaction, owner: str, queue: _Queue) -> _Queue | None:
    """The queue without its oldest; None: that was all."""
    key = _place_key(owner, queue.first)
    value = tx.get(_PLACE, key)
    freed = 0
    if value is not None:
        freed = _erase(tx, owner, msgspec.json.decode(value, type=_Place).response_id)
        tx.delete(_PLACE, key)
    return _put_queue(tx, owner, _Queue(queue.first + 1, queue.next, queue.bytes - freed))


def _erase(tx: Transaction, owner: str, response_id: str) -> int:
    """Bytes that it had."""
    key = f"{owner}/{response_id}"
    value = tx.get(_VALUE, key)
    if value is None:
        return 0
    tx.delete(_VALUE, key)
    _add(tx, -len(value), -1)
    return len(value)


def _place_key(owner: str, number: int) -> str:
    return f"{owner}/{number:012d}"


def _queue(tx: Transaction, owner: str) -> _Queue:
    value = tx.get(_QUEUE, owner)
    return _Queue() if value is None else msgspec.json.decode(value, type=_Queue)


def _queues(tx: Transaction) -> list[tuple[str, _Queue]]:
    return [(owner, msgspec.json.decode(value, type=_Queue)) for owner, value in tx.items(_QUEUE)]


def _put_queue(tx: Transaction, owner: str, queue: _Queue) -> _Queue | None:
    if queue.first >= queue.next:
        tx.delete(_QUEUE, owner)
        return None
    tx.put(_QUEUE, owner, _encode(queue))
    return queue


def _sum(tx: Transaction) -> _Sum:
    value = tx.get(_SUM, "all")
    return _Sum() if value is None else msgspec.json.decode(value, type=_Sum)


def _add(tx: Transaction, size: int, count: int) -> None:
    total = _sum(tx)
    tx.put(_SUM, "all", _encode(_Sum(total.bytes + size, total.count + count, total.swept_at)))
