"""Where the store lives, and opening it."""

from pathlib import Path

import platformdirs

from router.errors import ConfigError
from router.state.backend import Backend, StoreFailed
from router.state.sqlite import SqliteBackend
from router.state.store import BackedStore

FILE = "router.sqlite"


def store_path(state_dir: str) -> Path:
    """The SQLite file: in ``state_dir``, or the system's place for application data
    (``~/.local/share/allsorts`` on Linux, ``~/Library/Application Support/allsorts`` on macOS).
    """
    return Path(state_dir or platformdirs.user_data_dir("allsorts")).expanduser() / FILE


def open_store(state_dir: str) -> BackedStore:
    """The store at ``state_dir``: a folder, or ``redis://…`` for replicas on several machines.

    Raises ConfigError naming the place.
    """
    try:
        return BackedStore(_backend(state_dir))
    except StoreFailed as error:
        raise ConfigError(str(error)) from None


def _backend(state_dir: str) -> Backend:
    if state_dir.startswith(("redis://", "rediss://")):
        from router.state.redis import RedisBackend

        return RedisBackend(state_dir)
    if "://" in state_dir or state_dir.startswith(("redis:", "rediss:")):
        raise ConfigError(f"{state_dir}: no store is at such an address; give a folder, or redis://HOST:PORT/NUMBER")
    return SqliteBackend(store_path(state_dir))
