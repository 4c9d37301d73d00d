"""Models read from files: what a header says, and one clear line for every file that is no model."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.cli.support.model_files import read_model
from router.errors import ConfigError
from tests.support.gguf_files import LLAMA, WEIGHTS, gguf_bytes

MODELS = Path("build/models")


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


def test_shards_are_counted_together_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    """Fields stand in the first, weights in all."""
    first = written(tmp_path, "tiny.Q4_K_M-00001-of-00002.gguf", gguf_bytes())
    assert "tiny.Q4_K_M-00002-of-00002.gguf" in refused_of(first)
    second = written(tmp_path, "tiny.Q4_K_M-00002-of-00002.gguf", gguf_bytes({}, WEIGHTS[1:]))
    assert read_model(str(first)).weights_bytes == 384 + 2 * 288
    assert "name the first" in refused(second)


def refused_of(path: Path) -> str:
    """The line, whichever file it names."""
    with pytest.raises(ConfigError) as raised:
        read_model(str(path))
    return raised.value.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF", "truncated"),
        (gguf_bytes()[:300], "ends inside its header"),
        (gguf_bytes()[:-40], "truncated"),
        (gguf_bytes(version=1), "version is 1"),
        (gguf_bytes(version=0x03000000), "big-endian"),
        (gguf_bytes({}), "general.architecture is missing"),
        (gguf_bytes({**LLAMA, "llama.block_count": "many"}), "llama.block_count must be a whole number, not 'many'"),
        (gguf_bytes({**LLAMA, "llama.block_count": 0}), "llama.block_count must be a whole number"),
        (gguf_bytes({key: LLAMA[key] for key in LLAMA if "head_count" not in key}), "head_count is missing"),
        (gguf_bytes(LLAMA, (("w", (1 << 40, 1 << 20), 0, 4),)), "truncated or corrupt"),
        (gguf_bytes(LLAMA, (("w", (1,), 777, 4),)), "unknown type (777)"),
        (gguf_bytes().replace(b"\x0b\x00\x00\x00\x00\x00\x00\x00", b"\xff" * 8, 1), "more than a file"),
    ],
)
def test_a_broken_gguf_file_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    """The file, the field and what is wrong with it."""
    assert says in refused(written(tmp_path, "broken.gguf", content))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(cut=st.integers(0, 2000), place=st.integers(0, 800), garbage=st.binary(max_size=12))
def test_no_damage_to_a_header_gets_past_as_anything_but_one_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, garbage: bytes
) -> None:
    """Truncated anywhere, overwritten anywhere: a shape or a ConfigError, never another exception."""
    whole = gguf_bytes()
    damaged = (whole[:place] + garbage + whole[place + len(garbage) :])[: max(0, len(whole) - cut)]
    path = written(tmp_path_factory.getbasetemp(), "damaged.gguf", damaged)
    try:
        assert read_model(str(path)).layers >= 1
    except ConfigError as error:
        assert "\n" not in error.message  # noqa: PT017 - either end is right


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


@pytest.mark.parametrize(
    ("stated", "quantization"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}},
            "int8",
        ),
        (
            {"quant_method": "compressed-tensors",
             "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}},
            "fp8",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}},
            "gptq",
        ),
    ],
)  # fmt: skip
def test_the_quantization_config_is_understood(tmp_path: Path, stated: dict[str, Any], quantization: str) -> None:
    """As the quantizers write it."""
    assert read_model(str(config(tmp_path, quantization_config=stated))).quantization == quantization


def test_weights_beside_a_config_are_counted(tmp_path: Path) -> None:
    """The files themselves, or what their index says while they are still to be downloaded."""
    config(tmp_path)
    written(tmp_path, "model.safetensors.index.json", '{"metadata": {"total_size": 16060522496}}')
    assert read_model(str(tmp_path)).weights_bytes == 16060522496
    written(tmp_path, "model-00001-of-00001.safetensors", bytes(1000))
    assert read_model(str(tmp_path)).weights_bytes == 1000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: not valid JSON"),
        ('{\n "hidden_size": 4096,\n}', "line 3: not valid JSON"),
        ("[1]", "no JSON object"),
        ("{}", "field num_attention_heads is missing"),
        (json.dumps({**CONFIG, "hidden_size": "wide"}), "field hidden_size must be a whole number, not 'wide'"),
        (json.dumps({**CONFIG, "num_hidden_layers": -1}), "field num_hidden_layers must be"),
        (json.dumps({**CONFIG, "num_hidden_layers": True}), "field num_hidden_layers must be"),
        (json.dumps({**CONFIG, "quantization_config": "awq"}), "field quantization_config must be an object"),
        (json.dumps({**CONFIG, "quantization_config": {"quant_method": "magic"}}), "quant_method: 'magic'"),
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


@pytest.mark.model
@pytest.mark.parametrize(("name", "bits"), [("q8_0", 8.5), ("q4_k_m", 6.2)])
def test_a_real_file_is_read_as_the_whole_reader_reads_it(name: str, bits: float) -> None:
    """The same figures as the gguf package's reader, from the header alone."""
    path = MODELS / f"smollm2-135m-{name}.gguf"
    if not path.exists():
        pytest.skip("run `make model` first")
    from workers.models.gguf_file import read_gguf

    shape, facts = read_model(str(path)), read_gguf(path)
    assert (shape.parameters, shape.weights_bytes, shape.quantization) == (
        facts.parameters, facts.weights_bytes, facts.quantization,
    )  # fmt: skip
    assert (shape.layers, shape.kv_heads, shape.head_dim_k) == (facts.layers, facts.kv_heads, facts.head_dim_k)
    assert 8 * shape.weights_bytes / shape.parameters == pytest.approx(bits, abs=0.1)
