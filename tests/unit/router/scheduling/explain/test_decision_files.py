"""Files of decision records: no two replicas share one, and whoever reads finds them all."""

from pathlib import Path

import pytest

from router.scheduling.explain.decision_files import RecordFiles, family, of_rank, turned_over, whole_lines
from router.scheduling.explain.decision_log import RecordLog


def test_no_replica_writes_where_another_turns_its_file_over(tmp_path: Path) -> None:
    """Rank 1 once wrote to ``F.1``, which rank 0 replaced each time its own file was full."""
    path = tmp_path / "records.jsonl"
    names = [name for rank in range(4) for name in (of_rank(path, rank), turned_over(of_rank(path, rank)))]
    assert len(set(names)) == len(names)
    logs = [RecordLog(of_rank(path, rank), limit_bytes=400) for rank in (0, 1)]
    for number in range(20):
        for rank, log in enumerate(logs):
            log.put(b'{"rank":%d,"n":%09d}' % (rank, number))
    for log in logs:
        log.close(within_s=10.0)
    assert {one.name for one in tmp_path.iterdir()} == {one.name for one in names[:4]}
    for rank in (0, 1):
        mine = of_rank(path, rank)
        lines = [line for one in (turned_over(mine), mine) for line in whole_lines(one)]
        assert lines[-1] == b'{"rank":%d,"n":%09d}\n' % (rank, 19)
        assert all(b'"rank":%d' % rank in line for line in lines)


def test_the_files_of_all_ranks_are_found_the_older_half_first(tmp_path: Path) -> None:
    """And nothing that only begins alike."""
    kin = ["r.jsonl.1", "r.jsonl", "r.jsonl.rank1.1", "r.jsonl.rank1", "r.jsonl.rank10"]
    for name in (*kin, "r.jsonl.bak", "r.jsonl.rankx", "xr.jsonl", "r.jsonl.12"):
        (tmp_path / name).write_bytes(b"{}\n")
    assert [one.name for one in family(tmp_path / "r.jsonl")] == kin


def test_a_request_is_found_in_whichever_file_it_lies(tmp_path: Path) -> None:
    """By its whole id; a line that is still being written is not there yet."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"record_id":"a#0","request_id":"a"}\n{"record_id":"b#0","request_id":"b"')
    of_rank(path, 1).write_bytes(b'{"record_id":"b#0","request_id":"b"}\n{"record_id":"ab#0","request_id":"ab"}\n')
    files = RecordFiles(path)
    assert files.of_request("b") == [b'{"record_id":"b#0","request_id":"b"}']
    assert files.of_request("c") == []
    assert RecordFiles(tmp_path / "none" / "r.jsonl").of_request("b") == []


@pytest.mark.parametrize(
    ("left", "kept"), [(b'{"a":1}\n{"b', b'{"a":1}\n'), (b'{"b', b""), (b'{"a":1}\n', b'{"a":1}\n')]
)
def test_half_a_line_that_a_killed_router_left_is_cut_off(tmp_path: Path, left: bytes, kept: bytes) -> None:
    """The next line would have been glued to it, and no reader would get past it."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(left)
    log = RecordLog(path)
    log.put(b'{"c":3}')
    log.close()
    assert path.read_bytes() == kept + b'{"c":3}\n'
