"""A backend of the store that forgets."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from router.domain.token_bucket import TokenBucket
from router.state.backend import Transaction

T = TypeVar("T")

_Entries = dict[str, dict[str, bytes]]


class MemoryBackend:
    """Entries in dictionaries. A transaction works on a copy that replaces the original when it succeeds."""

    def __init__(self) -> None:
        self._entries: _Entries = {}
        self._logs: dict[str, list[bytes]] = {}
        self._notices: dict[str, dict[str, tuple[bytes, float]]] = defaultdict(dict)
        self._buckets: dict[str, TokenBucket] = {}
        self._writes = 0
        self._lock = threading.Lock()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a copy; keep the copy if it returns."""
        with self._lock:
            transaction = _Copy(self._entries, self._logs)
            result = work(transaction)
            self._entries, self._logs = dict(transaction.entries), dict(transaction.logs)
            self._writes += transaction.writes
            return result

    def refresh(self) -> int:
        """Transactions that changed something."""
        return self._writes

    def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """Until it expires."""
        with self._lock:
            self._notices[board][key] = (value, time.monotonic() + ttl_s)

    def posts(self, board: str) -> list[tuple[str, bytes]]:
        """Those that have not expired."""
        with self._lock:
            now = time.monotonic()
            return sorted((key, value) for key, (value, until) in self._notices[board].items() if until > now)

    def withdraw(self, board: str, key: str) -> None:
        """Forget it."""
        with self._lock:
            self._notices[board].pop(key, None)

    def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """From a bucket of that name; its level."""
        with self._lock:
            now = time.monotonic()
            found = self._buckets.setdefault(bucket, TokenBucket.full(per_minute, now))
            found.per_minute = per_minute
            found.refill(now)
            found.spend(amount, max_debt_s=max_debt_s)
            return found.level

    def close(self) -> None:
        """Nothing is held."""


class _Copy:
    def __init__(self, entries: _Entries, logs: dict[str, list[bytes]]) -> None:
        self.entries: _Entries = defaultdict(dict, {kind: dict(table) for kind, table in entries.items()})
        self.writes = 0
        self.logs: dict[str, list[bytes]] = defaultdict(list, {name: list(log) for name, log in logs.items()})

    def get(self, kind: str, key: str) -> bytes | None:
        return self.entries[kind].get(key)

    def put(self, kind: str, key: str, value: bytes) -> None:
        self.writes += 1
        self.entries[kind][key] = value

    def delete(self, kind: str, key: str) -> bool:
        self.writes += 1
        return self.entries[kind].pop(key, None) is not None

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        return sorted(self.entries[kind].items())

    def append(self, log: str, value: bytes, keep: int) -> None:
        self.writes += 1
        self.logs[log] = [*self.logs[log], value][-keep:]

    def tail(self, log: str, limit: int) -> list[bytes]:
        return self.logs[log][-limit:]
