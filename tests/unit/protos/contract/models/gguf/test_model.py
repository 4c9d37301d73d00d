"""What GGUF models say of themselves, over all their parts and by their own keys."""

from pathlib import Path
from typing import Any

import pytest

from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import LINEAGE_KEY, read_gguf, stated_quantization
from protos.contract.models.kv_cache import kv_cache_bytes
from protos.contract.models.model_shape import KvLayers, ModelShape
from tests.support.gguf_files import LLAMA, WEIGHTS, gguf_bytes


def model(folder: Path, arch: str, **keys: Any) -> ModelShape:
    """Of the architecture, with LLAMA's fields and those given; ``attention__x`` stands for ``attention.x``."""
    fields = {key.replace("llama.", f"{arch}."): value for key, value in LLAMA.items()}
    fields |= {"general.architecture": arch} | {f"{arch}.{key.replace('__', '.')}": keys[key] for key in keys}
    path = folder / "model.gguf"
    path.write_bytes(gguf_bytes({key: value for key, value in fields.items() if value is not None}))
    return read_gguf(path)


def test_the_header_gives_shape_quantization_and_exact_bytes(tmp_path: Path) -> None:
    """Vocabulary is the number of tokens; without an output tensor, embeddings are tied."""
    path = tmp_path / "tiny-q2_k.gguf"
    path.write_bytes(gguf_bytes({**LLAMA, LINEAGE_KEY: "requantized from q4_1"}))
    shape = read_gguf(path)
    assert (shape.name, shape.layers, shape.hidden, shape.kv_heads, shape.head_dim_k) == ("Tiny", 4, 64, 2, 8)
    assert (shape.vocabulary, shape.context_tokens, shape.lineage) == (3, 2048, "requantized from q4_1")
    assert (shape.weights_bytes, shape.parameters, shape.tied_embeddings) == (384 + 288, 192 + 512, True)
    assert shape.bits_per_weight == 8 * (384 + 288) / (192 + 512)
    assert shape.quantization == stated_quantization(path) == "q4_k_m", "the file's name says otherwise"


def test_the_file_name_is_the_last_resort(tmp_path: Path) -> None:
    """Where the header is silent or cannot be read; and where both are, nothing is claimed."""
    path = tmp_path / "Model-7B-Q4_K_M.gguf"
    path.write_bytes(gguf_bytes({key: value for key, value in LLAMA.items() if key != "general.file_type"}))
    assert read_gguf(path).quantization == stated_quantization(path) == "q4_k_m"
    assert stated_quantization(tmp_path / "gone-Q8_0.gguf") == "q8_0"
    path = path.rename(tmp_path / "model.gguf")
    assert read_gguf(path).quantization == ""


def test_parts_are_counted_together_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    """Fields stand in the first, weights in all."""
    first, second = (tmp_path / f"tiny.Q4_K_M-{part:05}-of-00002.gguf" for part in (1, 2))
    first.write_bytes(gguf_bytes())
    with pytest.raises(BadModelFile, match=r"tiny\.Q4_K_M-00002-of-00002\.gguf: cannot be read"):
        read_gguf(first)
    second.write_bytes(gguf_bytes({}, (("more", *WEIGHTS[1][1:]),)))
    assert read_gguf(first).weights_bytes == 384 + 2 * 288
    with pytest.raises(BadModelFile, match="is part 2 of 2; name the first, which has the fields"):
        read_gguf(second)
    with pytest.raises(BadModelFile, match="claims 99999 parts"):
        read_gguf(first.rename(tmp_path / "tiny-00001-of-99999.gguf"))


def test_a_first_part_without_tensors_is_one_like_any_other(tmp_path: Path) -> None:
    """As gguf-split --no-tensor-first-split cuts it. Without tensors in any part there is no model."""
    first, second = (tmp_path / f"tiny-{part:05}-of-00002.gguf" for part in (1, 2))
    first.write_bytes(gguf_bytes(LLAMA, ()))
    second.write_bytes(gguf_bytes({}, WEIGHTS))
    whole = tmp_path / "tiny.gguf"
    whole.write_bytes(gguf_bytes())
    assert read_gguf(first) == read_gguf(whole)
    second.write_bytes(gguf_bytes({}, ()))
    with pytest.raises(BadModelFile, match="it has no tensors"):
        read_gguf(first)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "general.architecture is missing; is this a model's GGUF file?"),
        ({**LLAMA, "llama.block_count": "many"}, "llama.block_count must be a whole number, not 'many'"),
        ({**LLAMA, "llama.block_count": 2**40}, "llama.block_count must be at most 4096"),
        ({**LLAMA, "llama.attention.head_count_kv": [2, 2]}, "must have an entry for each of 4 layers"),
        ({**LLAMA, "llama.context_length": 2**60}, "llama.context_length must be a whole number"),
    ],
)
def test_fields_that_cannot_be_are_named(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    """The file, the field and what is wrong with it."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(gguf_bytes(fields))
    with pytest.raises(BadModelFile) as raised:
        read_gguf(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert says in str(raised.value)


def test_a_model_without_attention_keeps_no_cache(tmp_path: Path) -> None:
    """Mamba's files say zero heads."""
    shape = model(tmp_path, "mamba", attention__head_count=0, attention__head_count_kv=None)
    assert kv_cache_bytes(shape, 1000) == 0


def test_layers_that_differ_are_summed_and_not_taken_for_the_largest(tmp_path: Path) -> None:
    """lfm2: layers of convolutions keep nothing."""
    shape = model(tmp_path, "lfm2", attention__head_count_kv=[0, 2, 0, 2])
    assert shape.kv_heads == 2
    assert kv_cache_bytes(shape, 100) == 2 * 100 * 2 * (8 + 8) * 2


def test_every_so_many_layers_attend_in_full(tmp_path: Path) -> None:
    """qwen3next: of four layers the last, the others have a state of fixed size."""
    shape = model(tmp_path, "qwen3next", full_attention_interval=4)
    assert kv_cache_bytes(shape, 100) == 1 * 100 * 2 * (8 + 8) * 2


def test_windows_are_the_files_own_where_it_has_them(tmp_path: Path) -> None:
    """gemma4: which layers slide, with heads and dimensions of their own, and layers that share an earlier cache."""
    shape = model(
        tmp_path, "gemma4", attention__sliding_window=512, attention__sliding_window_pattern=[True, True, False, True],
        attention__head_count_kv=[4, 4, 1, 4], attention__key_length=32, attention__value_length=32,
        attention__key_length_swa=16, attention__value_length_swa=16, attention__shared_kv_layers=1,
    )  # fmt: skip
    assert shape.kv_layers == (
        KvLayers(layers=2, keys=64, values=64, window=512),
        KvLayers(layers=1, keys=32, values=32),
        KvLayers(layers=1, keys=0, values=0, window=512),
    )
    period = model(tmp_path, "other", attention__sliding_window=512, attention__sliding_window_pattern=2)
    assert [(one.layers, one.window) for one in period.kv_layers] == [(2, 512), (2, 0)]
    with pytest.raises(BadModelFile, match="sliding_window_pattern must have 4 entries"):
        model(tmp_path, "gemma4", attention__sliding_window=512, attention__sliding_window_pattern=[True])


@pytest.mark.parametrize(("arch", "sliding"), [("gemma3", 4), ("gpt-oss", 2), ("phi3", 4), ("llama", 0)])
def test_where_the_file_tells_the_window_alone_the_architecture_tells_the_layers(
    tmp_path: Path, arch: str, sliding: int
) -> None:
    """Of four layers; an architecture nobody knows is taken to attend in full, which asks for too much at worst."""
    shape = model(tmp_path, arch, attention__sliding_window=64)
    assert sum(one.layers for one in shape.kv_layers if one.window) == sliding


def test_latent_attention_is_told_by_its_own_keys(tmp_path: Path) -> None:
    """deepseek2: with ``key_length_mla`` one vector a layer is kept; older files keep every head's keys and values."""
    told = {"attention__kv_lora_rank": 512, "attention__head_count": 16, "block_count": 27}
    old = model(
        tmp_path, "deepseek2", **told,
        attention__head_count_kv=16, attention__key_length=192, attention__value_length=128,
    )  # fmt: skip
    assert kv_cache_bytes(old, 32768) / 2**30 == pytest.approx(8.44, abs=0.01)
    new = model(
        tmp_path, "deepseek2", **told, attention__head_count_kv=1, attention__key_length=576,
        attention__value_length=512, attention__key_length_mla=192, attention__value_length_mla=128,
    )  # fmt: skip
    assert kv_cache_bytes(new, 32768) == 27 * 576 * 2 * 32768


def test_of_experts_those_in_use_are_active(tmp_path: Path) -> None:
    """Attention and embeddings are read for every token; so are experts that are shared."""
    shape = model(tmp_path, "qwen3moe", expert_count=8, expert_used_count=2, expert_feed_forward_length=32)
    assert (shape.experts, shape.experts_used, shape.feed_forward) == (8, 2, 32)
    assert 0.25 < shape.active_parameters / shape.parameters < 1


@pytest.mark.model
@pytest.mark.parametrize(("name", "bits"), [("q8_0", 8.5), ("q4_k_m", 6.2)])
def test_a_real_file_is_read_from_the_header_alone(name: str, bits: float, model_files: dict[str, Path]) -> None:
    """SmolLM2-135M, by its publisher's figures."""
    shape = read_gguf(model_files[name])
    assert (shape.parameters, shape.layers, shape.kv_heads, shape.head_dim_k) == (134_515_008, 30, 3, 64)
    assert (shape.vocabulary, shape.quantization, shape.kv_layers) == (49152, name, ())
    assert shape.bits_per_weight == pytest.approx(bits, abs=0.1)
