"""The header of a safetensors file ends in its tensors or in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.contract.models.errors import BadModelFile
from protos.contract.models.safetensors import SafeTensor, read_tensors
from tests.support.safetensors_files import safetensors_file

TENSORS = {"a.weight": ("BF16", (8, 4), 64), "b.weight_scale": ("F8_E4M3", (2,), 2)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors_file(path, TENSORS)
    return path


def test_tensors_are_listed_with_their_sizes(file: Path) -> None:
    """By type and shape; metadata is no tensor."""
    assert read_tensors(file) == [SafeTensor("a.weight", 32, 64), SafeTensor("b.weight_scale", 2, 2)]
    text = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    assert read_tensors(file) == []


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"[]", "corrupt safetensors header"),
        (b"{", "corrupt safetensors header"),
        (b'{"a": 1}', "corrupt safetensors header"),
        (b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}', "corrupt safetensors header"),
        (b'{"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}', "corrupt safetensors header"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}', "truncated: its tensors end at byte"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, Infinity]}}', "corrupt safetensors header"),
        (b"[" * 100_000, "corrupt safetensors header"),
    ],
)
def test_each_kind_of_damage_is_named(file: Path, header: bytes, says: str) -> None:
    """With the file's name."""
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BadModelFile, match=says) as raised:
        read_tensors(file)
    assert str(raised.value).startswith(f"{file}: ")


def test_a_length_is_not_believed(file: Path) -> None:
    """Nothing is read, or taken of memory, that the file cannot hold."""
    for length in (0, 2**20, 2**63):
        file.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(BadModelFile, match=f"its header claims {length} bytes"):
            read_tensors(file)
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_tensors(file.with_name("gone.safetensors"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_and_cuts_end_in_tensors_or_one_line(data: st.DataObject, file: Path) -> None:
    """Never in another exception."""
    safetensors_file(file, TENSORS)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        assert len(read_tensors(file)) <= 3
    except BadModelFile as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
