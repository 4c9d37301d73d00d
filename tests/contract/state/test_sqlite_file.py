"""What only a file can promise: permissions, restarts, copies, and refusing what it cannot read."""

import sqlite3
import stat
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.state.backend import StoreFailed
from router.state.location import open_store, store_path
from router.state.rows import KeyRow
from router.state.sqlite import SqliteBackend

KEY = KeyRow(key_id="k", name="alice", secret_sha256="0" * 64, scopes=("serve",), created_at=1.0)


async def test_file_and_folder_are_private_and_survive_a_restart(tmp_path: Path) -> None:
    """Whoever reads the CA's key can let anything in."""
    folder = tmp_path / "state"
    store = open_store(str(folder))
    await store.add_key(KEY)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    await store.close()
    again = open_store(str(folder))
    assert await again.keys() == [KEY]
    await again.close()


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o700, True), (0o755, True), (0o775, True), (0o777, False), (0o1777, False)]
)
def test_a_folder_where_everybody_writes_is_refused(tmp_path: Path, mode: int, taken: bool) -> None:
    """Anybody could put a store with keys of his own there."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    if taken:
        SqliteBackend(folder / "router.sqlite").close()
        return
    with pytest.raises(StoreFailed, match=f"chmod 700 {folder}"):
        SqliteBackend(folder / "router.sqlite")
    assert not list(folder.iterdir())


def test_a_link_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """What it points to is not looked at, whether it exists or not."""
    for target in ("there.sqlite", "nowhere.sqlite"):
        (tmp_path / "there.sqlite").touch()
        link = tmp_path / "router.sqlite"
        link.symlink_to(tmp_path / target)
        with pytest.raises(StoreFailed, match="is a symbolic link"):
            SqliteBackend(link)
        link.unlink()
    assert not (tmp_path / "nowhere.sqlite").exists()


async def test_a_copy_of_the_file_is_a_backup(tmp_path: Path) -> None:
    """As the documentation says."""
    store = open_store(str(tmp_path / "one"))
    await store.add_key(KEY)
    await store.close()
    (tmp_path / "two").mkdir()
    store_path(str(tmp_path / "two")).write_bytes(store_path(str(tmp_path / "one")).read_bytes())
    copy = open_store(str(tmp_path / "two"))
    assert await copy.keys() == [KEY]
    await copy.close()


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    """The command line writes while the router runs."""
    one, two = SqliteBackend(tmp_path / "s"), SqliteBackend(tmp_path / "s")
    one.transact(lambda tx: tx.put("k", "a", b'"1"'))
    assert two.transact(lambda tx: tx.get("k", "a")) == b'"1"'
    one.close()
    two.close()


def test_a_file_that_is_no_store_is_refused_in_one_line(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    path = store_path(str(tmp_path))
    path.write_text("this is not a database, it is a long enough text file")
    with pytest.raises(ConfigError, match=r"router\.sqlite"):
        open_store(str(tmp_path))
    assert path.read_text().startswith("this is not")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """An older router must not misread it."""
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreFailed, match="newer version"):
        SqliteBackend(tmp_path / "s")


@pytest.mark.parametrize("address", ["redis:/127.0.0.1:1", "postgres://host/db", "rediss:/x"])
def test_an_address_that_is_no_store_is_no_folder(address: str) -> None:
    """A folder of that name would be a store without keys."""
    with pytest.raises(ConfigError, match="no store is at such an address"):
        open_store(address)
