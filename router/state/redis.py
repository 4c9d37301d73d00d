"""A backend in Redis, for router replicas on several machines. The server must persist (``appendonly yes``).

Optimistic: a transaction watches one version counter, buffers its writes, and runs again if another was faster.
Decisions of operators are rare, so it seldom is. Kinds are hashes, logs are lists, all under one prefix.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from router.state.backend import StoreFailed, Transaction

T = TypeVar("T")

PASSWORD_FILE = "ALLSORTS_REDIS_PASSWORD_FILE"  # noqa: S105 - a name
"""Names a file with the password, for an address without one: addresses stand in configurations and process lists."""

TIMEOUT_S = 5.0
MAX_TRIES = 64


class RedisBackend:
    """Connects to ``url`` (``redis://`` or ``rediss://``) at the first transaction."""

    def __init__(self, url: str, prefix: str = "allsorts") -> None:
        import redis

        self._errors = redis.RedisError
        self._conflict = redis.WatchError
        self._client: Any = connect(url)
        self._prefix = prefix

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` until nobody wrote meanwhile; at most ``MAX_TRIES`` times."""
        try:
            for _ in range(MAX_TRIES):
                try:
                    return self._try(work)
                except self._conflict:
                    continue
        except self._errors as error:
            raise StoreFailed(f"redis: {error}; check that the server runs and that its URL is right") from None
        raise StoreFailed(f"redis: {MAX_TRIES} tries were all overtaken by other writers; nothing was changed")

    def _try(self, work: Callable[[Transaction], T]) -> T:
        version = f"{self._prefix}:version"
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(version)
            transaction = _RedisTransaction(self._client, self._prefix)
            result = work(transaction)
            if transaction.writes:
                pipe.multi()
                pipe.incr(version)
                for write in transaction.writes:
                    write(pipe)
                pipe.execute()
            return result

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def connect(url: str) -> Any:
    """A client for ``url``, with the password from its file where the address has none. Raises StoreFailed."""
    import redis

    more = {} if urlsplit(url).password else {"password": _password()}
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, **more)


def _password() -> str | None:
    """From the file that the environment names; raises StoreFailed when it cannot be read."""
    path = os.environ.get(PASSWORD_FILE)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StoreFailed(f"{PASSWORD_FILE}={path}: cannot be read ({error.strerror})") from None


class _RedisTransaction:
    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._mine: dict[str, dict[str, bytes | None]] = {}
        self._appended: dict[str, list[bytes]] = {}
        self.writes: list[Callable[[Any], Any]] = []

    def get(self, kind: str, key: str) -> bytes | None:
        mine = self._mine.get(kind, {})
        if key in mine:
            return mine[key]
        found: bytes | None = self._client.hget(f"{self._prefix}:{kind}", key)
        return found

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._mine.setdefault(kind, {})[key] = value
        self.writes.append(lambda pipe: pipe.hset(f"{self._prefix}:{kind}", key, value))

    def delete(self, kind: str, key: str) -> bool:
        there = self.get(kind, key) is not None
        self._mine.setdefault(kind, {})[key] = None
        self.writes.append(lambda pipe: pipe.hdel(f"{self._prefix}:{kind}", key))
        return there

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        stored = {key.decode(): value for key, value in self._client.hgetall(f"{self._prefix}:{kind}").items()}
        merged = {**stored, **self._mine.get(kind, {})}
        return sorted((key, value) for key, value in merged.items() if value is not None)

    def append(self, log: str, value: bytes, keep: int) -> None:
        name = f"{self._prefix}:{log}"
        self._appended.setdefault(log, []).append(value)
        self.writes.append(lambda pipe: pipe.rpush(name, value))
        self.writes.append(lambda pipe: pipe.ltrim(name, -keep, -1))

    def tail(self, log: str, limit: int) -> list[bytes]:
        stored = self._client.lrange(f"{self._prefix}:{log}", -limit, -1)
        return [*stored, *self._appended.get(log, [])][-limit:]
