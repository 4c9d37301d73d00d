"""A path that llama.cpp cannot be given is one line that says what it needs."""

from pathlib import Path

import pytest

from tests.support.gguf_files import gguf_bytes
from workers.engines.base import LoadError
from workers.engines.llama_cpp.model_file import read_model


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as raised:
        read_model(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_wrong_place_says_what_is_there_instead(tmp_path: Path) -> None:
    """Nothing, a folder of GGUF files, another engine's folder or file."""
    assert "no such file; check the path" in refused(tmp_path / "gone.gguf")
    assert refused(tmp_path).endswith("needs the .gguf file inside it")
    (tmp_path / "config.json").touch()
    assert "--engine vllm takes it" in refused(tmp_path)
    (tmp_path / "tiny.gguf").touch()
    assert "inside it (tiny.gguf)" in refused(tmp_path)
    safetensors = tmp_path / "model.safetensors"
    safetensors.write_bytes(bytes(100))
    assert "--engine vllm takes the folder of this one" in refused(safetensors)
    assert refused(tmp_path / "tiny.gguf").endswith("not a GGUF file: it is empty; llama.cpp needs a .gguf file")


def test_a_damaged_file_is_the_readers_line(tmp_path: Path) -> None:
    """And a sound one its shape."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes()[:-1])
    assert "truncated" in refused(path)
    assert "download or convert it again" in refused(path)
    path.write_bytes(gguf_bytes())
    assert read_model(path).name == "Tiny"
