"""A backend in Redis, for router replicas on several machines. The server must persist (``appendonly yes``).

Optimistic: a transaction watches one version counter, buffers its writes, and runs again if another was faster.
Decisions of operators are rare, so it seldom is. Kinds are hashes, logs are lists, all under one prefix.

While the server is away, what was last seen is read and every change is refused; it is asked again each
``AGAIN_AFTER_S``, not by every call in turn. A server that lost everything gets it back (``mirror.py``).
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from router.domain.token_bucket import WINDOW_S
from router.state.backend import StoreFailed, Transaction
from router.state.mirror import Mirror, MirrorReader

T = TypeVar("T")

PASSWORD_FILE = "ALLSORTS_REDIS_PASSWORD_FILE"  # noqa: S105 - a name
"""Names a file with the password, for an address without one: addresses stand in configurations and process lists."""

TIMEOUT_S = 2.0
AGAIN_AFTER_S = 1.0

READ_EVERY_S = 1.0
"""At most so often everything is read to be remembered: answers that are kept are writes, too."""

NOT_REMEMBERED = "response"
"""Kinds of kept answers begin so: megabytes that nobody decided."""
MAX_TRIES = 64


_SPEND = """
local amount, per_minute, debt = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(held[1]) or per_minute, tonumber(held[2]) or now
level = math.min(per_minute, level + math.max(0, now - at) * per_minute / tonumber(ARGV[4]))
level = math.max(level - amount, -debt)
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return string.format('%.17g', level)
"""
"""As ``TokenBucket`` does it; until its debt is paid and it is full again, it is kept."""


class RedisBackend:
    """Connects to ``url`` (``redis://`` or ``rediss://``) at the first transaction."""

    def __init__(self, url: str, prefix: str = "allsorts") -> None:
        import redis

        self._errors = redis.RedisError
        self._conflict = redis.WatchError
        self._client: Any = connect(url)
        self._prefix = prefix
        self._mirror = Mirror()
        self._read_after = 0.0
        self._away_until = 0.0
        self._why_away = ""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` until nobody wrote meanwhile; at most ``MAX_TRIES`` times. While the server is away, on what was
        last seen, where it only reads.
        """
        try:
            return self._asked(lambda: self._transact(work))
        except _Away as away:
            if not self._mirror.version:
                raise StoreFailed(str(away)) from None
            return work(MirrorReader(self._mirror, str(away)))

    def refresh(self) -> int:
        """The version, 0 while there is none. Catches up with what others wrote; gives back what was lost."""
        try:
            return self._asked(self._refresh)
        except _Away as away:
            raise StoreFailed(str(away)) from None

    def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """Expires by the server's clock."""
        name = f"{self._prefix}:notice:{board}:{key}"
        self._noticed(lambda: self._client.set(name, value, px=max(1, round(ttl_s * 1000))))

    def posts(self, board: str) -> list[tuple[str, bytes]]:
        """Those that stand."""
        start = f"{self._prefix}:notice:{board}:"

        def read() -> list[tuple[str, bytes]]:
            names = sorted(self._client.scan_iter(match=f"{start}*", count=1000))
            values = self._client.mget(names) if names else []
            found = zip(names, values, strict=True)
            return [(name.decode().removeprefix(start), value) for name, value in found if value is not None]

        return self._noticed(read)

    def withdraw(self, board: str, key: str) -> None:
        """Take one down."""
        self._noticed(lambda: self._client.delete(f"{self._prefix}:notice:{board}:{key}"))

    def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """In one step at the server, by its clock."""
        key = f"{self._prefix}:bucket:{bucket}"
        most_s = max_debt_s + 2 * WINDOW_S
        values = (amount, per_minute, per_minute * max_debt_s / WINDOW_S, WINDOW_S, math.ceil(most_s))
        return float(self._noticed(lambda: self._client.eval(_SPEND, 1, key, *values)))

    # -- asking the server ---------------------------------------------------------------------------

    def _asked(self, call: Callable[[], T]) -> T:
        """Raises _Away, at once while the server was away a moment ago."""
        if time.monotonic() < self._away_until:
            raise _Away(self._why_away)
        try:
            return call()
        except self._errors as error:
            self._away_until = time.monotonic() + AGAIN_AFTER_S
            self._why_away = (
                f"redis: {error}; nothing was changed; check that the server runs and that its URL is right"
            )
            raise _Away(self._why_away) from None

    def _noticed(self, call: Callable[[], T]) -> T:
        try:
            return self._asked(call)
        except _Away as away:
            raise StoreFailed(str(away)) from None

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        for _ in range(MAX_TRIES):
            try:
                return self._try(work)
            except self._conflict:
                continue
        raise StoreFailed(f"redis: {MAX_TRIES} tries were all overtaken by other writers; nothing was changed")

    def _try(self, work: Callable[[Transaction], T]) -> T:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(self._version)
            if self._lost(pipe.get(self._version)):
                self._restore(pipe)
                pipe.watch(self._version)
            transaction = _RedisTransaction(self._client, self._prefix)
            result = work(transaction)
            if transaction.writes:
                pipe.multi()
                pipe.incr(self._version)
                for write in transaction.writes:
                    write(pipe)
                written = pipe.execute()
                self._keep_own(int(written[0]), transaction)
            return result

    @property
    def _version(self) -> str:
        return f"{self._prefix}:version"

    # -- what is remembered ----------------------------------------------------------------------------

    def _refresh(self) -> int:
        for _ in range(MAX_TRIES):
            try:
                with self._client.pipeline(transaction=True) as pipe:
                    pipe.watch(self._version)
                    found = pipe.get(self._version)
                    if self._lost(found):
                        return self._restore(pipe)
                    version = int(found or 0)
                    if version != self._mirror.version and time.monotonic() >= self._read_after:
                        self._read_after = time.monotonic() + READ_EVERY_S
                        entries = self._dump()
                        pipe.multi()
                        pipe.get(self._version)
                        pipe.execute()  # raises where somebody wrote meanwhile
                        self._mirror = Mirror(version=version, entries=entries)
                    return version
            except self._conflict:
                continue
        return self._mirror.version  # always overtaken: what was seen last is good enough until the next time

    def _lost(self, version: bytes | None) -> bool:
        """Whether the server knows less than this process does."""
        return self._mirror.is_worth_keeping and int(version or 0) < self._mirror.version

    def _restore(self, pipe: Any) -> int:
        """Write back what is remembered, under the pipeline's watch; who has seen more than others does it last."""
        mirror = self._mirror
        pipe.multi()
        for kind, table in mirror.entries.items():
            pipe.delete(f"{self._prefix}:{kind}")
            if table:
                pipe.hset(f"{self._prefix}:{kind}", mapping=table)
        pipe.set(self._version, mirror.version)
        pipe.execute()
        return mirror.version

    def _dump(self) -> dict[str, dict[str, bytes]]:
        found = {}
        for name in self._client.scan_iter(match=f"{self._prefix}:*", count=1000, _type="hash"):
            table = self._client.hgetall(name)
            kind = name.decode().removeprefix(f"{self._prefix}:")
            if kind.startswith((NOT_REMEMBERED, "bucket:")):
                continue
            found[kind] = {key.decode(): value for key, value in table.items()}
        return found

    def _keep_own(self, version: int, transaction: "_RedisTransaction") -> None:
        """What was just written, where it follows what is remembered: it must not be lost before the next refresh."""
        if version != self._mirror.version + 1:
            return  # others wrote in between: the next refresh reads it all
        entries = dict(self._mirror.entries)
        for kind, written in transaction.written.items():
            if kind.startswith(NOT_REMEMBERED):
                continue
            merged = {**entries.get(kind, {}), **written}
            entries[kind] = {key: value for key, value in merged.items() if value is not None}
        self._mirror = Mirror(version=version, entries=entries)

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


class _Away(Exception):
    """The server did not answer; the line says how."""


class _RedisTransaction:
    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self.written: dict[str, dict[str, bytes | None]] = {}
        self._appended: dict[str, list[bytes]] = {}
        self.writes: list[Callable[[Any], Any]] = []

    def get(self, kind: str, key: str) -> bytes | None:
        mine = self.written.get(kind, {})
        if key in mine:
            return mine[key]
        found: bytes | None = self._client.hget(f"{self._prefix}:{kind}", key)
        return found

    def put(self, kind: str, key: str, value: bytes) -> None:
        self.written.setdefault(kind, {})[key] = value
        self.writes.append(lambda pipe: pipe.hset(f"{self._prefix}:{kind}", key, value))

    def delete(self, kind: str, key: str) -> bool:
        there = self.get(kind, key) is not None
        self.written.setdefault(kind, {})[key] = None
        self.writes.append(lambda pipe: pipe.hdel(f"{self._prefix}:{kind}", key))
        return there

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        stored = {key.decode(): value for key, value in self._client.hgetall(f"{self._prefix}:{kind}").items()}
        merged = {**stored, **self.written.get(kind, {})}
        return sorted((key, value) for key, value in merged.items() if value is not None)

    def append(self, log: str, value: bytes, keep: int) -> None:
        name = f"{self._prefix}:{log}"
        self._appended.setdefault(log, []).append(value)
        self.writes.append(lambda pipe: pipe.rpush(name, value))
        self.writes.append(lambda pipe: pipe.ltrim(name, -keep, -1))

    def tail(self, log: str, limit: int) -> list[bytes]:
        stored = self._client.lrange(f"{self._prefix}:{log}", -limit, -1)
        return [*stored, *self._appended.get(log, [])][-limit:]
