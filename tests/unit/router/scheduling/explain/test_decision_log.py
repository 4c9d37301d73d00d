"""Decision records on disk: every line whole, two bounded files, and a full disk costs lines only."""

import threading
from pathlib import Path

from router.scheduling.explain.decision_log import RecordLog


def test_lines_are_kept_in_order_and_added_to_what_was_there(tmp_path: Path) -> None:
    """A router that starts again goes on with its file, which nobody else may read."""
    path = tmp_path / "records.jsonl"
    for first in (0, 3):
        log = RecordLog(path)
        for number in range(first, first + 3):
            log.put(b'{"n":%d}' % number)
        log.close()
    assert path.read_bytes().splitlines() == [b'{"n":%d}' % number for number in range(6)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_both_files_together_stay_within_the_limit(tmp_path: Path) -> None:
    """The newest lines are the ones that are kept."""
    path = tmp_path / "records.jsonl"
    log = RecordLog(path, limit_bytes=1000)
    for number in range(200):
        log.put(b"%09d" % number)
    log.close(within_s=10.0)
    files = [path.with_name("records.jsonl.1"), path]
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    assert sum(file.stat().st_size for file in files) <= 1000
    assert lines == [b"%09d" % number for number in range(200 - len(lines), 200)]


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    """Each line is counted; nobody waits and nothing is raised."""
    lost = threading.Semaphore(0)
    log = RecordLog(Path("/dev/full"), lost=lost.release)
    for _ in range(3):
        log.put(b"{}")
    for _ in range(3):
        assert lost.acquire(timeout=60)
    log.close()


def test_a_folder_that_is_not_there_loses_lines_until_it_is(tmp_path: Path) -> None:
    """The next line after the folder was made is kept."""
    path = tmp_path / "later" / "records.jsonl"
    lost = threading.Semaphore(0)
    log = RecordLog(path, lost=lost.release)
    log.put(b"gone")
    assert lost.acquire(timeout=60)
    path.parent.mkdir()
    log.put(b"kept")
    log.close()
    assert path.read_bytes() == b"kept\n"
