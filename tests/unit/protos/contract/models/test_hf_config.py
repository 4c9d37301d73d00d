"""What a config.json says of a model, as quantizers and model authors write it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.contract.models.errors import BadModelFile
from protos.contract.models.hf_config import quantization_of, shape_from_config
from protos.contract.models.kv_cache import kv_cache_bytes
from protos.contract.models.model_shape import KvLayers
from protos.contract.models.quantization import BY_NAME

PATH = Path("models/some-model/config.json")

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def groups(*each: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {f"group_{number}": one for number, one in enumerate(each)}
    return {"quant_method": "compressed-tensors", "config_groups": told, **more}


INT8, INT4, FP8, FP4 = (
    {"num_bits": bits, "type": kind} for bits, kind in ((8, "int"), (4, "int"), (8, "float"), (4, "float"))
)


def test_a_config_gives_the_published_count() -> None:
    """8,030,261,248 parameters follow from it; the folder's name is the model's."""
    shape = shape_from_config(PATH, CONFIG)
    assert (shape.parameters, shape.quantization, shape.name) == (8_030_261_248, "bf16", "some-model")
    assert shape.kv_layers == ()
    assert shape_from_config(PATH, {**CONFIG, "_name_or_path": "org/Named"}).name == "Named"


@pytest.mark.parametrize(
    ("stated", "name", "method", "bits"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", "awq", 4),
        ({"quant_method": "awq"}, "awq", "awq", 4),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8", "gptq", 8),
        ({"quant_method": "gptq", "bits": 3}, "gptq-int3", "gptq", 3),
        ({"quant_method": "fp8"}, "fp8", "fp8", 8),
        ({"quant_method": "fbgemm_fp8"}, "fp8", "fp8", 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", "bitsandbytes", 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", "bitsandbytes", 8),
        ({"quant_method": "mxfp4"}, "mxfp4", "mxfp4", 4),
        ({"quant_method": "aqlm"}, "aqlm", "aqlm", 4),
        (groups({"weights": INT4}), "gptq", "compressed-tensors", 4),
        (groups({"weights": INT8}), "gptq-int8", "compressed-tensors", 8),
        (groups({"weights": INT8, "input_activations": INT8}), "int8", "compressed-tensors", 8),
        (groups({"weights": FP8, "input_activations": FP8}), "fp8", "compressed-tensors", 8),
        (groups({"weights": FP4}, format="nvfp4-pack-quantized"), "nvfp4", "compressed-tensors", 4),
        (groups({"weights": FP8}, {"weights": FP4}), "nvfp4", "compressed-tensors", 4),
        (groups({"weights": FP4}, quant_method="modelopt", quant_algo="NVFP4"), "nvfp4", "modelopt", 4),
        ({"quant_method": "modelopt"}, "fp8", "modelopt", 8),
        ({"quant_method": "modelopt_fp4"}, "nvfp4", "modelopt-fp4", 4),
        ({"group_size": 64, "bits": 4}, "mlx-4bit", "mlx", 4),
    ],
)
def test_the_quantization_config_is_understood(stated: dict[str, Any], name: str, method: str, bits: int) -> None:
    """As the quantizers write it; of groups that differ the one of fewest bits counts."""
    found = quantization_of(PATH, {**CONFIG, "quantization_config": stated})
    assert (found.name, found.method, found.bits) == (name, method, bits)
    assert shape_from_config(PATH, {**CONFIG, "quantization_config": stated}).quantization == name


def test_mlx_writes_its_own_object() -> None:
    """``quantization`` alone, or beside a copy that names no method; 8.5 bits a weight at eight."""
    for more in ({}, {"quantization_config": {"group_size": 64, "bits": 8}}):
        found = quantization_of(PATH, {**CONFIG, "quantization": {"group_size": 64, "bits": 8}, **more})
        assert (found.name, found.method) == ("mlx-8bit", "mlx")
    assert BY_NAME["mlx-8bit"].bits_per_weight == 8.5
    assert quantization_of(PATH, {**CONFIG, "quantization": "none"}).name == "bf16"


@pytest.mark.parametrize(
    ("told", "name"),
    [({"torch_dtype": "float16"}, "fp16"), ({"dtype": "torch.float32"}, "fp32"), ({}, "bf16"),
     ({"text_config": {"dtype": "float16"}}, "fp16")],
)  # fmt: skip
def test_without_one_it_is_the_type_of_the_weights(told: dict[str, Any], name: str) -> None:
    """Under its old name or its new one, of the model or of its text part; most are published in bf16."""
    plain = {key: value for key, value in CONFIG.items() if key != "torch_dtype"}
    assert quantization_of(PATH, {**plain, **told}).name == name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantization_config": "awq"}, "field quantization_config must be an object, not 'awq'"),
        ({"quantization_config": {"bits": 4}}, "field quantization_config.quant_method is missing; it must name"),
        ({"quantization_config": {"quant_method": "gptq", "bits": "x"}}, "field quantization_config.bits must be"),
        ({"quantization_config": groups({"weights": 4})}, "quantization_config.config_groups.group_0.weights must be"),
        ({"hidden_size": "wide"}, "field hidden_size must be a whole number, not 'wide'"),
        ({"num_hidden_layers": True}, "field num_hidden_layers must be a whole number"),
        ({"num_hidden_layers": 10**9}, "field num_hidden_layers must be at most 4096"),
        ({"layer_types": ["full_attention"]}, "field layer_types must have an entry for each of 32 layers"),
        ({"block_configs": [1]}, "field block_configs must be a list of objects"),
    ],
)
def test_a_field_that_cannot_be_is_named(changes: dict[str, Any], says: str) -> None:
    """With the file, in one line."""
    with pytest.raises(BadModelFile) as raised:
        shape_from_config(PATH, {**CONFIG, **changes})
    assert str(raised.value).startswith(f"{PATH}: ")
    assert says in str(raised.value)


def test_layers_with_linear_attention_keep_nothing() -> None:
    """qwen3.5: of 64 layers every fourth, 16 GiB at 262,144 tokens; qwen3-next tells it by an interval."""
    kinds = (["linear_attention"] * 3 + ["full_attention"]) * 16
    text = {"num_hidden_layers": 64, "layer_types": kinds, "num_attention_heads": 24, "num_key_value_heads": 4,
            "head_dim": 256}  # fmt: skip
    assert kv_cache_bytes(shape_from_config(PATH, {**CONFIG, "text_config": text}), 262_144) == 16 * 2**30
    told = {"full_attention_interval": 4, "num_key_value_heads": 2, "head_dim": 256}
    assert kv_cache_bytes(shape_from_config(PATH, {**CONFIG, **told}), 1) == 8 * 2 * 2 * 256 * 2


@pytest.mark.parametrize(
    ("changes", "sliding"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"] * 16}, 16),
        ({"sliding_window_pattern": 4}, 24),
        ({"model_type": "mistral"}, 32),
        ({"model_type": "mistral", "use_sliding_window": False}, 0),
        ({}, 0),
    ],
)
def test_windowed_layers_are_counted(changes: dict[str, Any], sliding: int) -> None:
    """One by one, by their period, or all."""
    shape = shape_from_config(PATH, {**CONFIG, "sliding_window": 1024, **changes})
    assert sum(one.layers for one in shape.kv_layers if one.window == 1024) == sliding


def test_what_a_file_leaves_to_its_class_is_the_class_default() -> None:
    """gemma-3-4b-it names neither heads nor vocabulary."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "sliding_window": 1024}  # fmt: skip
    shape = shape_from_config(PATH, {"model_type": "gemma3", "text_config": text, "torch_dtype": "bfloat16"})
    assert (shape.heads, shape.kv_heads, shape.head_dim_k, shape.vocabulary) == (8, 4, 256, 262_208)
    assert shape.parameters == pytest.approx(3.88e9, rel=0.01)
    assert shape.kv_layers == (
        KvLayers(layers=29, keys=1024, values=1024, window=1024),
        KvLayers(layers=5, keys=1024, values=1024),
    )


def test_blocks_that_differ_are_read_one_by_one() -> None:
    """nemotron-nas: heads and widths of each block; some have no attention at all."""
    block = {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}}
    told = {"hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": None, "intermediate_size": None,
            "num_hidden_layers": 80}  # fmt: skip
    shape = shape_from_config(PATH, {**CONFIG, **told, "block_configs": [block] * 80})
    assert (shape.kv_heads, shape.feed_forward, shape.kv_layers) == (8, 28672, ())
    assert shape.parameters == pytest.approx(70.6e9, rel=0.01)
    idle = {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": None, "no_op": True}}
    half = shape_from_config(PATH, {**CONFIG, **told, "block_configs": [block, idle] * 40})
    assert kv_cache_bytes(half, 100) == kv_cache_bytes(shape, 100) / 2
    assert half.feed_forward == 28672 // 2


def test_blocks_without_attention_or_with_a_matrix_instead_weigh_less() -> None:
    """nemotron-nas again: a 70B shape of which blocks were taken away has fewer weights, not only a smaller cache."""
    told = {
        "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": None,
        "intermediate_size": None, "vocab_size": 128256,
    }  # fmt: skip
    full = {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}}
    idle = {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 1.3125}}
    linear = {"attention": {"replace_with_linear": True}, "ffn": {"replace_with_linear": True}}

    def billions(*blocks: object) -> float:
        return shape_from_config(PATH, {**CONFIG, **told, "block_configs": list(blocks)}).parameters / 1e9

    attention, feed_forward, square = 8192 * 128 * 2 * 72 / 1e9, 3 * 8192 * 28672 / 1e9, 8192**2 / 1e9
    whole = billions(*[full] * 80)
    assert whole == pytest.approx(70.55, abs=0.02)
    assert billions(*[full] * 40, *[idle] * 40) == pytest.approx(
        whole - 40 * (attention + 0.75 * feed_forward), abs=0.02
    )
    less = whole - 20 * (attention + feed_forward - 2 * square)
    assert billions(*[full] * 60, *[linear] * 20) == pytest.approx(less, abs=0.02)


def test_latent_attention_keeps_one_vector() -> None:
    """deepseek-v2-lite: 512 + 64 numbers a layer."""
    told = {"num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_key_value_heads": 16}
    assert kv_cache_bytes(shape_from_config(PATH, {**CONFIG, **told}), 1) == 27 * 576 * 2


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    *CONFIG, "layer_types", "block_configs", "quantization_config", "quantization", "text_config", "sliding_window",
    "kv_lora_rank", "head_dim", "num_experts", "full_attention_interval", "sliding_window_pattern", "config_groups",
]  # fmt: skip


@UNHURRIED
@given(changes=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4))
def test_no_value_of_a_field_gets_past_as_anything_but_one_line(changes: dict[str, Any]) -> None:
    """A shape or a BadModelFile, never another exception."""
    try:
        shape = shape_from_config(PATH, {**CONFIG, **changes})
    except BadModelFile as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
        return
    assert shape.parameters >= 0
    assert kv_cache_bytes(shape, 1000) >= 0


@UNHURRIED
@given(stated=st.dictionaries(st.sampled_from(["quant_method", "bits", "config_groups", "quant_algo"]), json_values))
def test_no_quantization_config_does_either(stated: dict[str, Any]) -> None:
    """Whatever its fields hold."""
    for method in ("gptq", "compressed-tensors", "bitsandbytes", ""):
        try:
            assert quantization_of(PATH, {"quantization_config": {"quant_method": method, **stated}}).bits > 0
        except BadModelFile as error:
            assert "\n" not in str(error)  # noqa: PT017 - either end is right
