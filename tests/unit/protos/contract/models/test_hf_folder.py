"""A model's folder is read as it is; what is wrong with it is one line that names the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos.contract.models.errors import BadModelFile
from protos.contract.models.hf_folder import HfFolder, read_config
from tests.support.safetensors_files import safetensors_file

SHAPE = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "max_position_embeddings": 2048,
    "eos_token_id": [7, 9],
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    safetensors_file(
        tmp_path / "model.safetensors",
        {"a.weight": ("BF16", (8, 4), 64), "b.qweight": ("I32", (16, 2), 128), "b.scales": ("F16", (2, 16), 64)},
    )
    return tmp_path


SIZES = {"vocab_size": 64, "intermediate_size": 128}


def read(folder: Path) -> HfFolder:
    return read_config(folder / "config.json")


def describe(folder: Path, **more: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(SHAPE | more))
    return folder


def test_shape_and_sizes_are_read(folder: Path) -> None:
    """Packed words count as the weights they hold; scales are bytes, not parameters."""
    found = read(describe(folder, quantization_config={"quant_method": "awq", "bits": 4}))
    shape = found.shape
    assert (shape.layers, shape.kv_heads, shape.head_dim_k, shape.context_tokens) == (2, 2, 8, 2048)
    assert shape.parameters == 8 * 4 + 16 * 2 * 8
    assert shape.weights_bytes == 64 + 128 + 64
    assert shape.bits_per_weight == pytest.approx(8 * 256 / 288)
    assert (found.stated.name, found.stated.method, found.stated.bits) == ("awq", "awq", 4)
    assert found.end_tokens == (7, 9)
    (folder / "generation_config.json").write_text('{"eos_token_id": 11}')
    assert read(folder).end_tokens == (11,)


def test_parameters_follow_from_the_shape_where_files_do_not_tell(folder: Path) -> None:
    """Weights that are packed in ways that names do not show are not counted wrongly; nor is what is still missing."""
    mlx = read(describe(folder, quantization={"group_size": 64, "bits": 4}, **SIZES)).shape
    assert (mlx.weights_bytes, mlx.quantization) == (256, "mlx-4bit")
    (folder / "model.safetensors").unlink()
    bare = read(describe(folder, **SIZES)).shape
    assert (bare.weights_bytes, bare.parameters) == (0, mlx.parameters)
    (folder / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 16060522496}}')
    assert read(folder).shape.weights_bytes == 16060522496


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_config_that_promises_packed_weights_is_held_to_it(method: str, tmp_path: Path) -> None:
    """VLLM would load the folder, leave its packed weights as memory happened to be, and answer nonsense."""
    safetensors_file(tmp_path / "model.safetensors", {"a.weight": ("BF16", (8, 4), 64)})
    with pytest.raises(BadModelFile, match=f"says {method}, its files hold no weights in that format"):
        read(describe(tmp_path, quantization_config={"quant_method": method, "bits": 4}))


def test_cut_and_corrupt_weights_are_found_by_their_headers(folder: Path) -> None:
    """Nothing is loaded to find out."""
    describe(folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    damaged = {
        "truncated": whole[:-10],
        "corrupt": np.random.default_rng(1).bytes(200),
        "corrupt safetensors header": whole[:8] + b"x" + whole[9:],
    }
    for told, data in damaged.items():
        file.write_bytes(data)
        with pytest.raises(BadModelFile, match=told) as error:
            read(folder)
        assert str(file) in str(error.value)
    file.write_bytes(whole)
    (folder / "config.json").write_text('{"num_hidden_layers": ')
    with pytest.raises(BadModelFile, match="not valid JSON"):
        read(folder)
