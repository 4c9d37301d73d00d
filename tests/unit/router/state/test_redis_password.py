"""Rule: Redis' password comes from a file, or from the address; a file that cannot be read is named."""

from pathlib import Path

import pytest

from router.errors import ConfigError
from router.state.location import open_store
from router.state.redis import PASSWORD_FILE, RedisBackend


def password(url: str) -> str | None:
    backend = RedisBackend(url)
    try:
        found: str | None = backend._client.connection_pool.connection_kwargs.get("password")
        return found
    finally:
        backend.close()


def test_the_file_is_read_where_the_address_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the line's end; an address that has a password keeps it."""
    assert password("redis://127.0.0.1:1/0") is None
    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "password"))
    assert password("redis://127.0.0.1:1/0") == "s3cret"
    assert password("redis://:other@127.0.0.1:1/0") == "other"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, before anything starts."""
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"ALLSORTS_REDIS_PASSWORD_FILE=.*none: cannot be read"):
        open_store("redis://127.0.0.1:1/0")
