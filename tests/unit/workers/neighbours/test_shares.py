"""Rule: what one worker takes another does not; who is gone takes nothing; the owner's cap is the last word."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.neighbours.shares import Bounds, NoRoom, Share, Shares, cores_for, cores_now, why_no_room

GIB = 2**30
EIGHT = Bounds(cores=8, memory_bytes=16 * GIB)

TAKER = """
import sys
from pathlib import Path
from workers.neighbours.shares import Bounds, Shares
shares = Shares(Path(sys.argv[1]), "other", Bounds(cores=8, memory_bytes=16 * 2**30))
print(shares.take_cores(asked=5, default=8), flush=True)
shares.take_memory("m", 10 * 2**30)
print("memory", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A neighbour with 5 of 8 cores and 10 of 16 GiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == ["5", "memory"]
    yield process
    process.kill()
    process.communicate()


def test_a_worker_takes_what_its_neighbours_leave(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    """Cores without a word, memory with a refusal that names who has it; a model again is not counted twice."""
    mine = Shares(tmp_path, "mine", EIGHT)
    assert mine.take_cores(asked=0, default=8) == 3
    mine.take_memory("small", 2 * GIB)
    mine.take_memory("small", 3 * GIB)
    with pytest.raises(NoRoom, match=r"large needs 4\.0 GiB .* 3\.0 of 16\.0 are left .*\(other 10\.0\)"):
        mine.take_memory("large", 4 * GIB)
    mine.give_back("small")
    mine.take_memory("large", 4 * GIB)
    assert [one.name for one in mine.others()] == ["other"]
    mine.close()


def test_who_is_killed_takes_nothing(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    """Its file is taken away by whoever looks next."""
    mine = Shares(tmp_path, "mine", EIGHT)
    assert len(mine.others()) == 1
    other.kill()
    other.wait()
    assert mine.others() == ()
    assert mine.take_cores(asked=0, default=8) == 8
    assert len(list(tmp_path.glob("*.share"))) == 1
    mine.close()
    assert list(tmp_path.glob("*.share")) == []


def test_what_is_no_worker_s_word_says_nothing(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    """Rubbish, links and files nobody holds; a folder that cannot be had leaves everything to this worker."""
    (tmp_path / "1-a.share").write_text("rubbish")
    (tmp_path / "2-b.share").write_text(json.dumps({"name": "dead", "cores": 8}))
    (tmp_path / "3-c.share").symlink_to(tmp_path / "2-b.share")
    mine = Shares(tmp_path, "mine", EIGHT)
    assert [one.name for one in mine.others()] == ["other"]
    nowhere = Shares(Path("/proc/allsorts"), "nowhere", EIGHT)
    assert nowhere.take_cores(asked=0, default=8) == 8
    nowhere.take_memory("m", 15 * GIB)
    nowhere.close()


@pytest.mark.parametrize(
    ("bounds", "others", "asked", "default", "granted"),
    [
        (Bounds(cores=8), 0, 0, 8, 8),
        (Bounds(cores=8), 8, 0, 8, 1),
        (Bounds(cores=8), 12, 0, 8, 1),
        (Bounds(cores=8), 6, 4, 8, 4),  # asked for: the owner's word, beyond what is left
        (Bounds(cores=8, max_cores=3), 0, 0, 8, 3),
        (Bounds(cores=8, max_cores=3), 6, 0, 8, 2),
        (Bounds(cores=8, max_cores=3), 0, 6, 8, 3),
        (Bounds(), 5, 0, 4, 4),  # nobody knows how many there are
        (Bounds(cores=2), 0, 0, 1, 1),
    ],
)
def test_cores_by_agreement(bounds: Bounds, others: int, asked: int, default: int, granted: int) -> None:
    there = [Share(name="other", cores=others)] if others else []
    assert cores_for(bounds, there, asked=asked, default=default) == granted


@pytest.mark.parametrize(
    ("cores", "sharers", "fixed", "granted"), [(8, 1, 0, 4), (8, 2, 0, 2), (8, 3, 2, 1), (16, 1, 4, 6), (2, 5, 0, 1)]
)
def test_those_who_did_not_ask_share_alike(cores: int, sharers: int, fixed: int, granted: int) -> None:
    """However many each took before there were more; who asked for some keeps them."""
    there = [Share(name=f"s{number}", cores=cores, sharing=True) for number in range(sharers)]
    there += [Share(name="fixed", cores=fixed)] if fixed else []
    assert cores_for(Bounds(cores=cores), there, asked=0, default=cores) == granted


def test_a_part_follows_who_is_here(tmp_path: Path) -> None:
    """Of a process that looks again: half once a neighbour shares, all once it is gone, never its own file."""
    mine = Shares(tmp_path, "mine", Bounds(cores=8))
    mine.take_cores(asked=0, default=8)
    assert cores_now(tmp_path, 8, 8) == 8
    other = Shares(tmp_path, "other", Bounds(cores=8))
    other.take_cores(asked=0, default=8)
    for path in tmp_path.glob("*.share"):  # as another process's: its number is in the name
        if b'"other"' in path.read_bytes():
            path.rename(tmp_path / f"1-{path.name.partition('-')[2]}")
    assert cores_now(tmp_path, 8, 8) == 4
    assert cores_now(tmp_path, 8, 3) == 3
    other.close()
    mine.close()


def test_the_owner_s_cap_counts_where_nobody_else_is() -> None:
    """Of all this worker's models together; without a cap and without neighbours the engine itself looks."""
    capped = Bounds(memory_bytes=16 * GIB, max_memory_bytes=4 * GIB)
    mine = Share(name="mine", memory={"one": 3 * GIB})
    assert why_no_room(capped, mine, (), "one", 4 * GIB) == ""
    assert "may take 4.0, 3.0 of them taken by its other models (--max-memory)" in why_no_room(
        capped, mine, (), "two", 2 * GIB
    )
    assert why_no_room(Bounds(memory_bytes=16 * GIB), mine, (), "two", 99 * GIB) == ""
    assert why_no_room(Bounds(), mine, (Share(name="other", memory={"m": GIB}),), "two", 99 * GIB) == ""
