"""Models read from files: what a header says, and one clear line for every file that is no model."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.cli.support.model_files import read_model
from router.errors import ConfigError
from tests.support.gguf_files import LLAMA, gguf_bytes
from tests.support.safetensors_files import safetensors_file


def written(folder: Path, name: str, content: bytes | str) -> Path:
    """The file ``name`` with that content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path | str) -> str:
    """The one line that reading ``path`` ends in."""
    with pytest.raises(ConfigError) as raised:
        read_model(str(path))
    message = raised.value.message
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_gguf_header_gives_shape_quantization_and_exact_bytes(tmp_path: Path) -> None:
    """Vocabulary is the number of tokens; without an output tensor, embeddings are tied."""
    shape = read_model(str(written(tmp_path, "tiny.gguf", gguf_bytes())))
    assert (shape.name, shape.layers, shape.hidden, shape.kv_heads, shape.head_dim_k) == ("Tiny", 4, 64, 2, 8)
    assert (shape.vocabulary, shape.context_tokens, shape.quantization) == (3, 2048, "q4_k_m")
    assert (shape.weights_bytes, shape.parameters, shape.tied_embeddings) == (384 + 288, 192 + 512, True)


def refused_of(path: Path) -> str:
    """The line, whichever file it names."""
    with pytest.raises(ConfigError) as raised:
        read_model(str(path))
    return raised.value.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF file"),
        (gguf_bytes()[:300], "truncated"),
        (gguf_bytes({}), "general.architecture is missing"),
        (gguf_bytes({**LLAMA, "llama.block_count": 0}), "names no layers; is this a language model's file?"),
        (gguf_bytes({key: LLAMA[key] for key in LLAMA if "head_count" not in key}), "names no attention heads"),
    ],
)
def test_a_broken_gguf_file_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    """The file, the field and what is wrong with it."""
    assert says in refused(written(tmp_path, "broken.gguf", content))


CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def config(folder: Path, **changes: Any) -> Path:
    """A config.json like Llama-3.1-8B's; None removes a field."""
    fields = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    return written(folder, "config.json", json.dumps(fields))


def test_a_config_gives_the_published_count(tmp_path: Path) -> None:
    """8,030,261,248 parameters follow from it; the folder's name is the model's."""
    shape = read_model(str(config(tmp_path)))
    assert (shape.parameters, shape.quantization, shape.name) == (8_030_261_248, "bf16", tmp_path.name)
    assert read_model(str(tmp_path)) == shape


def test_weights_beside_a_config_are_counted(tmp_path: Path) -> None:
    """The files themselves, or what their index says while they are still to be downloaded."""
    config(tmp_path)
    assert read_model(str(tmp_path)).weights_bytes == 0
    written(tmp_path, "model.safetensors.index.json", '{"metadata": {"total_size": 16060522496}}')
    assert read_model(str(tmp_path)).weights_bytes == 16060522496
    safetensors_file(tmp_path / "model-00001-of-00001.safetensors", {"a.weight": ("BF16", (8, 4), 64)})
    assert read_model(str(tmp_path)).weights_bytes == 64


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not valid JSON: line 1"),
        ('{\n "hidden_size": 4096,\n}', "not valid JSON: line 3"),
        ("[1]", "no JSON object"),
        ("{}", "names no layers, a hidden size, attention heads, a vocabulary; is this a language model's file?"),
        (json.dumps({**CONFIG, "hidden_size": "wide"}), "field hidden_size must be a whole number, not 'wide'"),
        (json.dumps({**CONFIG, "num_hidden_layers": -1}), "names no layers"),
        (json.dumps({**CONFIG, "num_hidden_layers": True}), "field num_hidden_layers must be"),
        (json.dumps({**CONFIG, "quantization_config": "awq"}), "field quantization_config must be an object"),
        (json.dumps({**CONFIG, "quantization_config": {"quant_method": "magic"}}), "unknown quantization 'magic'"),
        ("\xff\xfe".encode("latin-1"), "no text"),
    ],
)
def test_a_broken_config_is_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    """File, line or field, and what to do."""
    assert says in refused(written(tmp_path, "config.json", content))


def test_what_is_no_model_is_one_line_with_near_matches(tmp_path: Path) -> None:
    """Names, sizes and paths that lead nowhere."""
    assert "llama-3.3-70b" in refused_of(Path("lama-3.3-70"))
    assert "cannot be read" in refused(tmp_path / "gone.gguf")
    assert "neither config.json nor" in refused(tmp_path)
    assert "neither a .gguf file" in refused(written(tmp_path, "notes.txt", "x"))
