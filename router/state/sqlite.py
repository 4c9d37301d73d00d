"""A backend in one SQLite file, private to its owner. Several router processes of one machine may share it.

Back it up by copying: ``sqlite3 FILE ".backup COPY"`` at any time, or a plain copy of the file while the router is
stopped. Values are JSON, so that ``sqlite3 FILE "SELECT kind, key, value FROM entries"`` shows what is known.
"""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from router.state.backend import StoreFailed, Transaction
from router.state.notices import SqliteNotices

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""How long a transaction waits for another process's."""

FORMAT = 1
"""SQLite's user_version; a newer file is refused rather than misread."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
                                    PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (id INTEGER PRIMARY KEY AUTOINCREMENT, log TEXT NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS logs_by_name ON logs (log, id);
"""


def _help(error: sqlite3.Error) -> str:
    if "full" in str(error):
        return "free some space"
    return "restore a copy or move the file away"


def _refuse_others_hands(path: Path) -> None:
    """Raises StoreFailed where others could put a store of theirs in this one's place: with its keys, tokens and CA."""
    if path.is_symlink():
        raise StoreFailed(f"{path}: is a symbolic link; name the folder where the file is with --state-dir")
    mode = path.parent.stat().st_mode
    if mode & stat.S_IWOTH:
        raise StoreFailed(f"{path.parent}: everybody may write there; make it private: chmod 700 {path.parent}")


class SqliteBackend:
    """Opens (or makes) ``path``: the file 0600, its folder 0700 if it is made here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notices = SqliteNotices(path.with_name(f"{path.stem}-notices.sqlite"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _refuse_others_hands(path)
            os.close(
                os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            )  # private before the first byte is written
            path.chmod(0o600)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{path}: cannot be opened ({error}); check the path and who owns it") from None
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        try:
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise StoreFailed(f"{self._path}: written by a newer version (format {found}); update this router")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")  # a used token must not come back after a power cut
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: not usable ({error}); {_help(error)}") from None

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` between BEGIN IMMEDIATE and COMMIT."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(_SqliteTransaction(self._connection))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: {error}; nothing was changed") from None

    def refresh(self) -> int:
        """SQLite counts other connections' writes and this one's apart."""
        try:
            (others,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: {error}") from None
        return (int(others) << 40) + self._connection.total_changes

    def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """In a file of their own."""
        self._notices.post(board, key, value, ttl_s)

    def posts(self, board: str) -> list[tuple[str, bytes]]:
        """Those that stand."""
        return self._notices.posts(board)

    def withdraw(self, board: str, key: str) -> None:
        """Take one down."""
        self._notices.withdraw(board, key)

    def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """Beside the notices."""
        return self._notices.spend(bucket, amount, per_minute, max_debt_s)

    def close(self) -> None:
        """Close the files; the write-ahead log is folded into the store's."""
        self._notices.close()
        self._connection.close()


class _SqliteTransaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, kind: str, key: str) -> bytes | None:
        query = "SELECT value FROM entries WHERE kind = ? AND key = ?"
        row = self._connection.execute(query, (kind, key)).fetchone()
        return None if row is None else row[0].encode()

    def put(self, kind: str, key: str, value: bytes) -> None:
        statement = "INSERT OR REPLACE INTO entries (kind, key, value) VALUES (?, ?, ?)"
        self._connection.execute(statement, (kind, key, value.decode()))

    def delete(self, kind: str, key: str) -> bool:
        statement = "DELETE FROM entries WHERE kind = ? AND key = ?"
        return self._connection.execute(statement, (kind, key)).rowcount > 0

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        query = "SELECT key, value FROM entries WHERE kind = ? ORDER BY key"
        return [(key, value.encode()) for key, value in self._connection.execute(query, (kind,))]

    def append(self, log: str, value: bytes, keep: int) -> None:
        self._connection.execute("INSERT INTO logs (log, value) VALUES (?, ?)", (log, value.decode()))
        statement = (
            "DELETE FROM logs WHERE log = ? AND id <= "
            "(SELECT id FROM logs WHERE log = ? ORDER BY id DESC LIMIT 1 OFFSET ?)"
        )
        self._connection.execute(statement, (log, log, keep))

    def tail(self, log: str, limit: int) -> list[bytes]:
        query = "SELECT value FROM logs WHERE log = ? ORDER BY id DESC LIMIT ?"
        return [row[0].encode() for row in self._connection.execute(query, (log, limit))][::-1]
