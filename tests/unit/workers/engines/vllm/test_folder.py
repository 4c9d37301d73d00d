"""A folder that vLLM cannot be given is one line that says what it needs."""

from pathlib import Path

import pytest

from tests.support.safetensors_files import safetensors_file
from workers.engines.base import LoadError
from workers.engines.vllm.folder import read_folder


def test_a_wrong_place_says_what_is_missing(tmp_path: Path) -> None:
    """No folder, a file, no config, no weights: each has its own line."""
    file = tmp_path / "model.gguf"
    file.touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    for path, told in (
        (tmp_path / "nowhere", "no such folder"),
        (file, "is a file"),
        (empty, "has no config.json"),
        (bare, "has no weights"),
    ):
        with pytest.raises(LoadError, match=told) as error:
            read_folder(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_broken_file_in_it_is_the_readers_line(tmp_path: Path) -> None:
    """As a LoadError, which is what engines end in."""
    safetensors_file(tmp_path / "model.safetensors", {"a.weight": ("BF16", (8, 4), 64)})
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(LoadError, match=r"config\.json: holds no JSON object; download"):
        read_folder(tmp_path)
