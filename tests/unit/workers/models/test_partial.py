"""A file on its way: what has come is gone on from, as far as it is what the journal says."""

import hashlib
import os
from pathlib import Path

import pytest

from protos.contract.files.content import FilePart
from workers.models import partial
from workers.models.partial import PartialFile

BLOCK = 1000
DATA = os.urandom(3 * BLOCK + 17)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "BLOCK_BYTES", BLOCK)


def part(data: bytes = DATA) -> FilePart:
    return FilePart(name="m.gguf", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def begun(folder: Path, blocks: int) -> PartialFile:
    """With so many blocks here, and closed, as by a process that ended."""
    made = PartialFile(folder, part())
    made.open()
    for number in range(blocks):
        made.write(DATA[number * BLOCK : (number + 1) * BLOCK])
    made.close()
    return made


@pytest.mark.parametrize("blocks", [0, 1, 3, 4])
def test_another_process_goes_on_from_there(tmp_path: Path, blocks: int) -> None:
    """And the hash is of the whole."""
    begun(tmp_path, blocks)
    again = PartialFile(tmp_path, part())
    again.open()
    assert again.offset == min(blocks * BLOCK, len(DATA))
    while again.offset < len(DATA):
        again.write(DATA[again.offset : again.offset + BLOCK])
    assert again.sha256 == part().sha256
    again.finish(tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == DATA
    assert [one.name for one in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("at", [0, BLOCK, 2 * BLOCK + 5])
def test_what_was_damaged_on_disk_is_fetched_again(tmp_path: Path, at: int) -> None:
    """From the block in which it is on."""
    one = begun(tmp_path, 3)
    with one.path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[at] ^ 1]))
    again = PartialFile(tmp_path, part())
    again.open()
    assert again.offset == at // BLOCK * BLOCK
    assert again.path.stat().st_size == again.offset
    again.close()


@pytest.mark.parametrize("how", ["longer", "shorter", "no journal", "damaged journal", "another file"])
def test_what_the_journal_does_not_vouch_for_is_not_kept(tmp_path: Path, how: str) -> None:
    """A crash between the two writes, or other content under the same name."""
    one, wanted = begun(tmp_path, 2), part()
    expected = 0
    match how:
        case "longer":
            with one.path.open("ab") as file:
                file.write(b"half a block")
            expected = 2 * BLOCK
        case "shorter":
            os.truncate(one.path, BLOCK + 3)
            expected = BLOCK
        case "no journal":
            (tmp_path / "m.gguf.journal").unlink()
        case "damaged journal":
            (tmp_path / "m.gguf.journal").write_bytes(b"\xff\xfe")
        case "another file":
            wanted = part(b"other" * 1000)
    again = PartialFile(tmp_path, wanted)
    again.open()
    assert again.offset == expected
    again.close()


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Not the journal either."""
    begun(tmp_path, 2).discard()
    assert list(tmp_path.iterdir()) == []
