"""Redis goes, comes back, and comes back empty: what replicas remember is read meanwhile, and given back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from router.state.backend import StoreFailed
from router.state.redis import RedisBackend


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def make(redis_url: str, tmp_path: Path) -> Callable[[], RedisBackend]:
    return lambda: RedisBackend(redis_url, prefix=tmp_path.name)


def lose(server: Any, prefix: str) -> None:
    """All of this test's keys, as FLUSHALL would take them."""
    server.delete(*server.keys(f"{prefix}:*"))


def write(backend: RedisBackend, key: str, value: bytes) -> None:
    backend.transact(lambda tx: tx.put("kind", key, value))


def read(backend: RedisBackend) -> list[tuple[str, bytes]]:
    return backend.transact(lambda tx: tx.items("kind"))


def test_a_flushed_server_gets_back_what_a_replica_has_seen(
    make: Callable[[], RedisBackend], server: Any, tmp_path: Path
) -> None:
    """By the next look, and a replica that starts later finds it."""
    one = make()
    write(one, "a", b"1")
    one.transact(lambda tx: tx.put("other", "x", b"y"))
    version = one.refresh()
    lose(server, tmp_path.name)
    assert one.refresh() == version
    later = make()
    assert read(later) == [("a", b"1")]
    assert later.transact(lambda tx: tx.get("other", "x")) == b"y"
    one.close()
    later.close()


def test_of_two_replicas_the_one_that_saw_more_wins_whoever_is_first(
    make: Callable[[], RedisBackend], server: Any, tmp_path: Path
) -> None:
    """A revocation that the other had not read yet is not lost with the server."""
    one, other = make(), make()
    write(one, "a", b"1")
    other.refresh()
    write(one, "revoked", b"2")  # its writer remembers it without another look
    lose(server, tmp_path.name)
    other.refresh()
    assert read(other) == [("a", b"1")]
    one.refresh()
    other.refresh()
    assert read(other) == [("a", b"1"), ("revoked", b"2")]
    one.close()
    other.close()


def test_a_write_to_a_flushed_server_comes_after_what_was_lost(
    make: Callable[[], RedisBackend], server: Any, tmp_path: Path
) -> None:
    """Or the next replica would take the newcomer's word for all there ever was."""
    one = make()
    write(one, "a", b"1")
    lose(server, tmp_path.name)
    write(one, "b", b"2")
    assert read(one) == [("a", b"1"), ("b", b"2")]
    one.close()


def test_what_was_deleted_stays_deleted(make: Callable[[], RedisBackend], server: Any, tmp_path: Path) -> None:
    """A key that an operator took back must not come back with the rest."""
    one = make()
    write(one, "a", b"1")
    write(one, "b", b"2")
    one.refresh()
    one.transact(lambda tx: tx.delete("kind", "a"))
    lose(server, tmp_path.name)
    one.refresh()
    assert read(one) == [("b", b"2")]
    one.close()


def test_while_the_server_is_away_what_was_seen_is_read_and_nothing_is_changed(
    make: Callable[[], RedisBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests go on by what is known; an operator hears in one line that nothing was changed. It is not asked by every
    call in turn, and used again when it is back.
    """
    backend = make()
    write(backend, "a", b"1")
    backend.refresh()
    away = redis.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused.")
    tries = []

    def no_pipeline(*_: object, **__: object) -> None:
        tries.append(1)
        raise away

    with monkeypatch.context() as patched:
        patched.setattr(backend._client, "pipeline", no_pipeline)
        for _ in range(50):
            assert read(backend) == [("a", b"1")]
        with pytest.raises(StoreFailed, match=r"refused\.; nothing was changed; check") as failed:
            write(backend, "b", b"2")
        assert "\n" not in str(failed.value)
        with pytest.raises(StoreFailed):
            backend.refresh()
        assert len(tries) == 1
    backend._away_until = 0.0
    write(backend, "b", b"2")
    assert read(backend) == [("a", b"1"), ("b", b"2")]
    backend.close()


def test_a_replica_that_never_saw_the_server_says_so(tmp_path: Path) -> None:
    """It remembers nothing: an empty store would let everybody in, or nobody."""
    backend = RedisBackend(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StoreFailed, match="redis:"):
        read(backend)
    backend.close()
