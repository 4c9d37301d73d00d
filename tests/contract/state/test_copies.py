"""Copies of the state: taken while it is in use, put back into either kind of store, and never half."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from router.state.backend import Backend, StoreFailed
from router.state.copies import PREFIX, back_up, restore
from router.state.location import FILE
from router.state.redis import RedisBackend
from router.state.sqlite import SqliteBackend

STATES = ["sqlite", "redis"]


class Places:
    """Stores by name, made when they are first asked for."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._folder = folder
        self._request = request
        self._open: list[Backend] = []

    def at(self, kind: str) -> str:
        return self._request.getfixturevalue("redis_url") if kind == "redis" else str(self._folder / kind)

    def backend(self, kind: str) -> Backend:
        made = RedisBackend(self.at(kind)) if kind == "redis" else SqliteBackend(Path(self.at(kind)) / FILE)
        self._open.append(made)
        return made

    def close(self) -> None:
        for one in self._open:
            one.close()
            client: Any = getattr(one, "_client", None)
            if client is not None:
                for name in client.scan_iter(match=f"{PREFIX}:*"):
                    client.delete(name)
                client.close()


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    made = Places(tmp_path, request)
    yield made
    made.close()


def fill(backend: Backend) -> None:
    def work(tx: Any) -> None:
        tx.put("keys", "k1", b'{"name":"Zo\xc3\xab"}')
        tx.put("keys", "k2", b"{}")
        tx.put("facts", "authority", b'"-----BEGIN PRIVATE KEY-----"')
        tx.append("audit", b'{"line":1}', 10)
        tx.append("audit", b'{"line":2}', 10)

    backend.transact(work)


def contents(backend: Backend) -> Any:
    return backend.transact(lambda tx: (tx.items("keys"), tx.items("facts"), tx.tail("audit", 10)))


@pytest.mark.parametrize("source", STATES)
@pytest.mark.parametrize("target", [*STATES, "another"])
def test_a_copy_put_back_is_the_same_state(places: Places, tmp_path: Path, source: str, target: str) -> None:
    """Whichever store it goes into; the one it came from goes on meanwhile."""
    live, copy = places.backend(source), tmp_path / "copy.sqlite"
    fill(live)
    before = contents(live)
    copied = back_up(places.at(source), copy)
    assert str(copied) == "2 audit, 1 facts, 2 keys"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith((".copy", "copy"))] == ["copy.sqlite"]
    live.transact(lambda tx: tx.put("keys", "k3", b"{}"))
    restore(places.at(target), copy, replace=True)
    assert contents(places.backend(target)) == before


@pytest.mark.parametrize("target", STATES)
def test_a_state_that_is_there_is_left_alone(places: Places, tmp_path: Path, target: str) -> None:
    """Unless the operator says so; and so is a copy of the same name."""
    live, copy = places.backend(target), tmp_path / "copy.sqlite"
    fill(live)
    back_up(places.at(target), copy)
    live.transact(lambda tx: tx.put("keys", "k3", b"{}"))
    before = contents(live)
    with pytest.raises(StoreFailed, match="holds a state already"):
        restore(places.at(target), copy)
    with pytest.raises(StoreFailed, match="is there already"):
        back_up(places.at(target), copy)
    assert contents(live) == before
    back_up(places.at(target), copy, replace=True)


def test_a_restored_file_is_private_and_opens(places: Places, tmp_path: Path) -> None:
    """As one that the router made itself."""
    fill(places.backend("sqlite"))
    back_up(places.at("sqlite"), tmp_path / "copy.sqlite")
    restore(str(tmp_path / "fresh"), tmp_path / "copy.sqlite")
    assert (tmp_path / "fresh" / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["missing", "text", "damaged", "newer", "empty"])
def test_what_is_no_copy_changes_nothing(places: Places, tmp_path: Path, how: str) -> None:
    """It says what is wrong with it."""
    copy, target = tmp_path / "copy.sqlite", tmp_path / "target"
    fill(places.backend("sqlite"))
    if how != "missing":
        back_up(places.at("sqlite"), copy)
    match how:
        case "text":
            copy.write_text("no database" * 100)
        case "damaged":
            data = bytearray(copy.read_bytes())
            data[4096:6000] = b"\xff" * (6000 - 4096)
            copy.write_bytes(data)
        case "newer":
            connection = sqlite3.connect(copy)
            connection.execute("PRAGMA user_version=99")
            connection.close()
        case "empty":
            copy.write_bytes(b"")
    with pytest.raises(StoreFailed, match=r"copy\.sqlite"):
        restore(str(target), copy)
    assert not target.exists()


def test_a_place_without_a_state_cannot_be_backed_up(tmp_path: Path) -> None:
    """Nothing is made there, nor a copy of nothing."""
    with pytest.raises(StoreFailed, match="no such file"):
        back_up(str(tmp_path / "nowhere"), tmp_path / "copy.sqlite")
    assert list(tmp_path.iterdir()) == []
