"""The stores under test: memory, SQLite and, where a server is installed, a real Redis."""

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from router.state.backend import Backend
from router.state.redis import RedisBackend
from router.state.sqlite import SqliteBackend
from router.state.store import BackedStore
from tests.support.memory_backend import MemoryBackend
from tests.support.until import until


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of our own on a unix socket; skips where none is installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine")
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    command = [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(path)
            yield f"unix://{path}"
        finally:
            server.terminate()


def _wait_for(path: Path) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) == 0

    until(answers, "redis-server starts")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Backend]:
    """Opens the same place every time; memory has none, so it is one object."""
    if request.param == "sqlite":
        return lambda: SqliteBackend(tmp_path / "state" / "router.sqlite")
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda: RedisBackend(url, prefix=tmp_path.name)
    memory = MemoryBackend()
    return lambda: memory


@pytest.fixture
async def store(make_backend: Callable[[], Backend]) -> AsyncIterator[BackedStore]:
    made = BackedStore(make_backend())
    yield made
    await made.close()
