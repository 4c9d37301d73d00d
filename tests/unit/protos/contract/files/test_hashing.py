"""Hashes of files: computed once for each state of a file."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from protos.contract.files import hashing
from protos.contract.files.hashing import FileChanged, HashCache, hash_file


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, hashing.READ_BYTES - 1, hashing.READ_BYTES, 2 * hashing.READ_BYTES + 7])
def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path, size: int) -> None:
    """Of any length."""
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert hash_file(tmp_path / "a") == sha256(data)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the next process: the cache is kept, readable by its owner alone."""
    file, kept = tmp_path / "a.gguf", tmp_path / "state" / "hashes.json"
    file.write_bytes(b"weights")
    assert HashCache(kept).part(file).sha256 == sha256(b"weights")
    monkeypatch.setattr(hashing, "hash_file", lambda *_, **__: pytest.fail("read again"))
    assert HashCache(kept).part(file).sha256 == sha256(b"weights")
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["size", "mtime", "inode"])
def test_another_state_of_the_file_is_read_anew(tmp_path: Path, how: str) -> None:
    """Whatever of it changed."""
    file, cache = tmp_path / "a.gguf", HashCache(None)
    file.write_bytes(b"weights")
    cache.part(file)
    about = file.stat()
    if how == "size":
        file.write_bytes(b"longer weights")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif how == "mtime":
        file.write_bytes(b"WEIGHTS")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    else:
        other = tmp_path / "b"
        other.write_bytes(b"WEIGHTS")
        os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
        other.replace(file)
    assert cache.known(file) is None
    assert cache.part(file).sha256 == sha256(file.read_bytes())


def test_a_file_that_is_written_to_while_it_is_read_has_no_hash(tmp_path: Path) -> None:
    """It would be of neither state."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"x" * 10)

    def write() -> bool:
        file.write_bytes(b"y" * 20)
        return False

    with pytest.raises(FileChanged, match="was written to"):
        HashCache(None).part(file, stop=write)


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    """A worker that ends does not wait for 40 GB."""
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(InterruptedError):
        HashCache(None).part(tmp_path / "a", stop=lambda: True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_a_damaged_cache_is_forgotten(tmp_path: Path, text: str) -> None:
    """And written anew."""
    kept, file = tmp_path / "hashes.json", tmp_path / "a"
    kept.write_text(text)
    file.write_bytes(b"x")
    assert HashCache(kept).part(file).sha256 == sha256(b"x")
    assert json.loads(kept.read_text())[str(file)][3] == sha256(b"x")


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes that were asked for longest ago go."""
    monkeypatch.setattr(hashing, "MAX_KNOWN", 2)
    cache = HashCache(None)
    files = [tmp_path / name for name in "abc"]
    for one in files:
        one.write_bytes(b"x")
        cache.part(one)
    assert [cache.known(one) is not None for one in files] == [False, True, True]
