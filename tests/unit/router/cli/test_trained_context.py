"""``allsorts up`` serves the context a model was trained with, as far as memory goes."""

from pathlib import Path

import pytest

from router.cli.support.trained_context import LEAST_TOKENS, trained_context
from router.errors import ConfigError
from tests.support.gguf_files import LLAMA, gguf_bytes

GIB = 2.0**30


def model(folder: Path, name: str = "m", **changes: int) -> Path:
    fields = {**LLAMA, **{f"llama.{key}": value for key, value in {"context_length": 8192, **changes}.items()}}
    path = folder / f"{name}.gguf"
    path.write_bytes(gguf_bytes(fields))
    return path


def test_it_is_what_the_model_was_trained_with_the_shortest_of_several(tmp_path: Path) -> None:
    long, short = model(tmp_path), model(tmp_path, "n", context_length=4096)
    assert trained_context([long, long], 8, 16 * GIB) == 8192
    assert trained_context([long, short], 8, 16 * GIB) == 4096


def test_it_is_halved_until_all_workers_leave_half_of_the_memory_free(tmp_path: Path) -> None:
    """A cache of so many sequences is given out at once."""
    wide = {"block_count": 32, "embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 8}
    file = model(tmp_path, **wide)
    found = [trained_context([file], 8, memory * GIB) for memory in (64, 8, 4, 0)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 8192
    assert LEAST_TOKENS < found[1] < 8192
    assert found[-1] == LEAST_TOKENS


def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "m.gguf"
    broken.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"m\.gguf"):
        trained_context([broken], 8)
