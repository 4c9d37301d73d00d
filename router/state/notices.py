"""Notices of replicas of one machine to each other, in an SQLite file beside the store's: quick, and no loss.

Apart from the store, so that a notice a second is no write to what operators decided, and needs no disk's word.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from router.domain.token_bucket import TokenBucket
from router.state.backend import StoreFailed

BUSY_TIMEOUT_S = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notices (board TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, until REAL NOT NULL,
                                    PRIMARY KEY (board, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, level REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""


class SqliteNotices:
    """Made at the first notice. Times are this machine's wall clock, which is everybody's here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """Leave or renew a notice; what has expired goes."""
        now = time.time()
        self._run("DELETE FROM notices WHERE until < ?", (now,))
        self._run(
            "INSERT OR REPLACE INTO notices (board, key, value, until) VALUES (?, ?, ?, ?)",
            (board, key, value, now + ttl_s),
        )

    def posts(self, board: str) -> list[tuple[str, bytes]]:
        """Those that stand."""
        query = "SELECT key, value FROM notices WHERE board = ? AND until >= ? ORDER BY key"
        return [(str(key), bytes(value)) for key, value in self._run(query, (board, time.time()))]

    def withdraw(self, board: str, key: str) -> None:
        """Take one down."""
        self._run("DELETE FROM notices WHERE board = ? AND key = ?", (board, key))

    def spend(self, name: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """From a bucket of that name; its level."""
        now = time.time()
        self._run("BEGIN IMMEDIATE", ())
        try:
            found = self._run("SELECT level, at FROM buckets WHERE name = ?", (name,))
            bucket = TokenBucket(per_minute, *found[0]) if found else TokenBucket.full(per_minute, now)
            bucket.refill(now)
            bucket.spend(amount, max_debt_s=max_debt_s)
            self._run("INSERT OR REPLACE INTO buckets (name, level, at) VALUES (?, ?, ?)", (name, bucket.level, now))
        finally:
            self._run("COMMIT", ())
        return bucket.level

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None:
                self._connection = self._opened()
            return self._connection.execute(statement, values).fetchall()
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{self._path}: {error}") from None

    def _opened(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(_SCHEMA)
        return connection
