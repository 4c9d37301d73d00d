"""Copies of the whole state: one SQLite file, whatever the store it was taken from and whatever it is put back into.

A copy is a ``router.sqlite`` like any other: its rows are those that both stores keep. It holds the CA's private key,
and is readable by its owner alone.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.state.backend import StoreFailed
from router.state.location import store_path
from router.state.sqlite import FORMAT, SqliteBackend

PREFIX = "allsorts"
MAX_TRIES = 16

Entry = tuple[str, str, bytes]
"""Kind, key, value."""

Line = tuple[str, bytes]
"""Of a log: its name, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """How many entries of each kind, and how many lines of each log, a copy has."""

    entries: dict[str, int]
    lines: dict[str, int]

    def __str__(self) -> str:
        """In one line."""
        counts = [f"{count} {kind}" for kind, count in sorted({**self.entries, **self.lines}.items())]
        return ", ".join(counts) or "nothing"


def back_up(state_dir: str, file: Path, *, replace: bool = False) -> Copied:
    """Copy the state at ``state_dir`` (folder or ``redis://…``) to ``file``, while routers run. Raises StoreFailed."""
    if file.exists() and not replace:
        raise StoreFailed(f"{file}: is there already; name another file, or say --replace")
    if not file.parent.is_dir():
        raise StoreFailed(f"{file.parent}: no such folder")
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        with _connected(fresh) as copy:
            if _is_redis(state_dir):
                with _connected_redis(state_dir) as client:
                    _fill(copy, *_read_redis(client))
            else:
                _copy_sqlite(store_path(state_dir), copy)
            copied = _checked(copy, file)
        fresh.replace(file)
    except OSError as error:
        raise StoreFailed(f"{file}: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return copied


def restore(state_dir: str, file: Path, *, replace: bool = False) -> Copied:
    """Put a copy back. A place that holds anything is left alone, unless ``replace``. Stop the routers first: what they
    hold in memory is of the state they started with. Raises StoreFailed.
    """
    if not file.is_file():
        raise StoreFailed(f"{file}: no such file")
    with _connected(file, read_only=True) as copy:
        copied = _checked(copy, file)
        if _is_redis(state_dir):
            with _connected_redis(state_dir) as client:
                _into_redis(client, copy, state_dir, replace=replace)
        else:
            _into_sqlite(store_path(state_dir), copy, replace=replace)
    return copied


# ---------------------------------------------------------------- SQLite


@contextlib.contextmanager
def _connected(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    try:
        more = "?mode=ro" if read_only else ""
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}{more}", uri=True, isolation_level=None)) as made:
            yield made
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {error}; is it a copy that `allsorts state backup` made?") from None


def _copy_sqlite(source: Path, copy: sqlite3.Connection) -> None:
    if not source.is_file():
        raise StoreFailed(f"{source}: no such file; name the folder with --state-dir")
    with _connected(source) as live:
        live.backup(copy)
    copy.execute("PRAGMA journal_mode=DELETE")  # one file


def _into_sqlite(path: Path, copy: sqlite3.Connection, *, replace: bool) -> None:
    backend = SqliteBackend(path)  # makes it, private
    backend.close()
    with _connected(path) as live:
        (there,) = live.execute("SELECT count(*) FROM entries").fetchone()
        if there and not replace:
            raise StoreFailed(f"{path}: holds a state already ({there} entries); stop the router and say --replace")
        copy.backup(live)
        live.execute("PRAGMA journal_mode=WAL")


def _fill(copy: sqlite3.Connection, entries: Iterable[Entry], lines: Iterable[Line]) -> None:
    copy.executescript(
        "CREATE TABLE entries (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) "
        "WITHOUT ROWID; CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, log TEXT NOT NULL, value TEXT NOT "
        f"NULL); CREATE INDEX logs_by_name ON logs (log, id); PRAGMA user_version={FORMAT};"
    )
    copy.execute("BEGIN")
    copy.executemany(
        "INSERT INTO entries VALUES (?, ?, ?)", ((kind, key, value.decode()) for kind, key, value in entries)
    )
    copy.executemany("INSERT INTO logs (log, value) VALUES (?, ?)", ((log, value.decode()) for log, value in lines))
    copy.execute("COMMIT")


def _checked(copy: sqlite3.Connection, file: Path) -> Copied:
    """What a copy holds. Raises StoreFailed for a damaged one, or one that a newer version wrote."""
    (found,) = copy.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise StoreFailed(f"{file}: is of format {found}, not {FORMAT}; use the version of allsorts that wrote it")
    (state,) = copy.execute("PRAGMA integrity_check").fetchone()
    if state != "ok":
        raise StoreFailed(f"{file}: is damaged ({state}); use another copy")
    entries = dict(copy.execute("SELECT kind, count(*) FROM entries GROUP BY kind"))
    return Copied(entries=entries, lines=dict(copy.execute("SELECT log, count(*) FROM logs GROUP BY log")))


# ---------------------------------------------------------------- Redis


def _is_redis(state_dir: str) -> bool:
    return state_dir.startswith(("redis://", "rediss://", "unix://"))


@contextlib.contextmanager
def _connected_redis(url: str) -> Iterator[Any]:
    import redis

    from router.state.redis import connect

    client = connect(url)
    try:
        yield client
    except redis.RedisError as error:
        raise StoreFailed(f"redis: {error}; check that the server runs and that its URL is right") from None
    finally:
        client.close()


def _read_redis(client: Any) -> tuple[list[Entry], list[Line]]:
    """Everything of one moment: read again while somebody writes."""
    import redis

    for _ in range(MAX_TRIES):
        with client.pipeline(transaction=True) as pipe:
            pipe.watch(f"{PREFIX}:version")
            found = _read_once(client)
            try:
                pipe.multi()
                pipe.exists(f"{PREFIX}:version")
                pipe.execute()
            except redis.WatchError:
                continue
            return found
    raise StoreFailed("redis: the state changed all the time; try again")


def _read_once(client: Any) -> tuple[list[Entry], list[Line]]:
    entries: list[Entry] = []
    lines: list[Line] = []
    for name in sorted(client.scan_iter(match=f"{PREFIX}:*")):
        what = name.decode().removeprefix(f"{PREFIX}:")
        match client.type(name):
            case b"hash":
                entries += [(what, key.decode(), value) for key, value in sorted(client.hgetall(name).items())]
            case b"list":
                lines += [(what, value) for value in client.lrange(name, 0, -1)]
            case _:  # counters, which mean nothing later
                pass
    return entries, lines


def _into_redis(client: Any, copy: sqlite3.Connection, url: str, *, replace: bool) -> None:
    there = list(client.scan_iter(match=f"{PREFIX}:*"))
    if there and not replace:
        where = url.rpartition("@")[2]
        raise StoreFailed(f"{where}: holds a state already ({len(there)} keys); stop the routers and say --replace")
    with client.pipeline(transaction=True) as pipe:
        for name in there:
            pipe.delete(name)
        for kind, key, value in copy.execute("SELECT kind, key, value FROM entries"):
            pipe.hset(f"{PREFIX}:{kind}", key, value)
        for log, value in copy.execute("SELECT log, value FROM logs ORDER BY id"):
            pipe.rpush(f"{PREFIX}:{log}", value)
        pipe.incr(f"{PREFIX}:version")
        pipe.execute()
