"""A backend of the store that forgets."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from router.state.backend import Transaction

T = TypeVar("T")

_Entries = dict[str, dict[str, bytes]]


class MemoryBackend:
    """Entries in dictionaries. A transaction works on a copy that replaces the original when it succeeds."""

    def __init__(self) -> None:
        self._entries: _Entries = {}
        self._logs: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a copy; keep the copy if it returns."""
        with self._lock:
            transaction = _Copy(self._entries, self._logs)
            result = work(transaction)
            self._entries, self._logs = dict(transaction.entries), dict(transaction.logs)
            return result

    def close(self) -> None:
        """Nothing is held."""


class _Copy:
    def __init__(self, entries: _Entries, logs: dict[str, list[bytes]]) -> None:
        self.entries: _Entries = defaultdict(dict, {kind: dict(table) for kind, table in entries.items()})
        self.logs: dict[str, list[bytes]] = defaultdict(list, {name: list(log) for name, log in logs.items()})

    def get(self, kind: str, key: str) -> bytes | None:
        return self.entries[kind].get(key)

    def put(self, kind: str, key: str, value: bytes) -> None:
        self.entries[kind][key] = value

    def delete(self, kind: str, key: str) -> bool:
        return self.entries[kind].pop(key, None) is not None

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        return sorted(self.entries[kind].items())

    def append(self, log: str, value: bytes, keep: int) -> None:
        self.logs[log] = [*self.logs[log], value][-keep:]

    def tail(self, log: str, limit: int) -> list[bytes]:
        return self.logs[log][-limit:]
