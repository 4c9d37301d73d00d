"""Figures of benchmarks that are made of parts."""

import json
from pathlib import Path

import pytest

from loadtest.bench.figures import keep


def test_parts_of_a_benchmark_share_one_object(tmp_path: Path) -> None:
    """A later part adds its keys and replaces its own; the others' stay."""
    keep("join", {"roles": [1], "files_left": 2}, folder=tmp_path)
    path = keep("join", {"files_left": 0}, folder=tmp_path)
    assert json.loads(path.read_text()) == {"roles": [1], "files_left": 0}


def test_a_file_that_holds_no_object_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "join.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no object"):
        keep("join", {"a": 1}, folder=tmp_path)
