"""A model's folder is read as it is; what is wrong with it is one line that names the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.engines.base import LoadError
from workers.engines.vllm.config_facts import read_folder

SHAPE = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "max_position_embeddings": 2048,
    "eos_token_id": [7, 9],
    "torch_dtype": "bfloat16",
}


def write_weights(file: Path, tensors: dict[str, tuple[str, tuple[int, ...], int]]) -> None:
    """A safetensors file of zeros: name to dtype, shape and bytes."""
    header, offset = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_weights(
        tmp_path / "model.safetensors",
        {"a.weight": ("BF16", (8, 4), 64), "b.qweight": ("I32", (16, 2), 128), "b.scales": ("F16", (2, 16), 64)},
    )
    return tmp_path


def describe(folder: Path, **more: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(SHAPE | more))
    return folder


def test_shape_and_sizes_are_read(folder: Path) -> None:
    """Packed words count as the weights they hold; scales are bytes, not parameters."""
    facts = read_folder(describe(folder, quantization_config={"quant_method": "awq", "bits": 4}))
    assert (facts.layers, facts.kv_heads, facts.head_dim, facts.context_tokens) == (2, 2, 8, 2048)
    assert facts.parameters == 8 * 4 + 16 * 2 * 8
    assert facts.weights_bytes == 64 + 128 + 64
    assert facts.bits_per_weight == pytest.approx(8 * 256 / 288)
    assert facts.end_tokens == (7, 9)


@pytest.mark.parametrize(
    ("stated", "quantization", "kind"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq", "awq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq", "gptq"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-8bit", "gptq"),
        ({"quant_method": "fp8"}, "fp8", "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8", "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4", "bitsandbytes"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}, "input_activations": None}},
            },
            "w4a16",
            "compressed-tensors",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "weights": {"num_bits": 8, "type": "float"},
                        "input_activations": {"num_bits": 8, "type": "float"},
                    }
                },
            },
            "fp8",
            "compressed-tensors",
        ),
        (None, "bf16", "safetensors"),
    ],
)
def test_the_quantization_is_what_the_folder_states(
    folder: Path, stated: dict[str, Any] | None, quantization: str, kind: str
) -> None:
    """By ``quantization_config``; without one, by the type of the weights."""
    facts = read_folder(describe(folder, **({"quantization_config": stated} if stated else {})))
    assert (facts.quantization, facts.format) == (quantization, kind)


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


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_config_that_promises_packed_weights_is_held_to_it(method: str, tmp_path: Path) -> None:
    """VLLM would load the folder, leave its packed weights as memory happened to be, and answer nonsense."""
    write_weights(tmp_path / "model.safetensors", {"a.weight": ("BF16", (8, 4), 64)})
    with pytest.raises(LoadError, match=f"says {method}, its files hold no weights in that format"):
        read_folder(describe(tmp_path, quantization_config={"quant_method": method, "bits": 4}))


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
        with pytest.raises(LoadError, match=told) as error:
            read_folder(folder)
        assert str(file) in str(error.value)
    file.write_bytes(whole)
    (folder / "config.json").write_text('{"num_hidden_layers": ')
    with pytest.raises(LoadError, match="not valid JSON"):
        read_folder(folder)
