"""What a Hugging Face config.json says of a model: its shape and its quantization. Pure: ``hf_folder`` reads files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.fields import Fields
from protos.contract.models.kv_cache import grouped
from protos.contract.models.model_shape import KvLayers, ModelShape
from protos.contract.models.quantization import canonical, find_format

LINEAGE_KEY = "allsorts_lineage"

_CLASS_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "gemma3_text": {
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
        "sliding_window": 4096, "sliding_window_pattern": 6, "tie_word_embeddings": True,
    },
    "llama": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048,
    },
}  # fmt: skip
"""What transformers' config classes take where a file is silent; files of multimodal models are, of their text part."""

_KEEP_NOTHING = frozenset({"linear_attention", "conv", "mamba", "mamba2", "recurrent", "ssm"})
"""Kinds of layers, in ``layer_types``, with a state of fixed size instead of keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedQuantization:
    """How the weights are stored, by config.json's account."""

    name: str  # canonical; one that no table knows: method and bits
    method: str  # safetensors where nothing is quantized; else awq, gptq, fp8, compressed-tensors, bitsandbytes …
    bits: int  # of one quantized weight


def shape_from_config(
    path: Path, config: Mapping[str, object], *, parameters: int = 0, weights_bytes: int = 0
) -> ModelShape:
    """The shape. ``parameters`` and ``weights_bytes``: of the files beside it, if any. Raises BadModelFile."""
    read = _text_fields(path, config)
    heads, hidden = read.count("num_attention_heads"), read.count("hidden_size")
    layers = read.layers("num_hidden_layers")
    head_dim = read.count("head_dim", hidden // heads if heads else 0)
    latent = read.count("kv_lora_rank")
    key = latent + read.count("qk_rope_head_dim") if latent else head_dim
    value = 0 if latent else head_dim
    kv_heads = [1] * layers if latent else _kv_heads(read, layers, heads)
    experts = read.count("num_local_experts") or read.count("num_experts") or read.count("n_routed_experts")
    feed_forward = _feed_forward(read, hidden)
    return ModelShape(
        name=_name(path, read),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=max(kv_heads, default=0),
        head_dim_k=key,
        head_dim_v=value,
        feed_forward=read.count("moe_intermediate_size", feed_forward) if experts else feed_forward,
        vocabulary=read.count("vocab_size"),
        context_tokens=read.count("max_position_embeddings"),
        tied_embeddings=read.flag("tie_word_embeddings", default=False),
        experts=experts,
        experts_used=read.count("num_experts_per_tok", min(2, experts)) if experts else 0,
        shared_experts=read.count("n_shared_experts"),
        dense_layers=read.count("first_k_dense_replace") if experts else 0,
        dense_feed_forward=feed_forward if experts else 0,
        kv_layers=grouped(
            [
                KvLayers(layers=1, keys=keeps * kept * key, values=keeps * kept * value, window=window)
                for kept, (keeps, window) in zip(kv_heads, _looking_back(read, layers), strict=True)
            ]
        ),
        attention_parameters=_attention_parameters(read, hidden, heads, head_dim),
        stated_parameters=parameters,
        weights_bytes=weights_bytes,
        quantization=quantization_of(path, config).name,
        lineage=Fields(path, config).text(LINEAGE_KEY),
    )


def _text_fields(path: Path, config: Mapping[str, object]) -> Fields:
    """The language model's fields; multimodal models keep them inside, and classes know what is left out."""
    text = config.get("text_config")
    told = {**config, **text} if isinstance(text, Mapping) else config
    told = {key: value for key, value in told.items() if value is not None}
    return Fields(path, {**_CLASS_DEFAULTS.get(str(told.get("model_type")), {}), **told})


def _name(path: Path, read: Fields) -> str:
    stated = read.text("_name_or_path").rstrip("/")
    return stated.rpartition("/")[2] or path.parent.name or read.text("model_type") or "model"


def _kv_heads(read: Fields, layers: int, heads: int) -> list[int]:
    """Of each layer; nemotron-nas tells them block by block."""
    blocks = read.parts("block_configs")
    if not blocks:
        return read.each("num_key_value_heads", layers, heads)
    if len(blocks) != layers:
        raise read.wrong("block_configs", f"must have an entry for each of {layers} layers")
    groups = [block.part("attention").count("n_heads_in_group") for block in blocks]
    return [heads // group if group else 0 for group in groups]


def _attention_parameters(read: Fields, hidden: int, heads: int, head_dim: int) -> int:
    """Weights of one layer's attention where it is not the plain one, or layers differ: their mean. 0: plain."""
    if latent := read.count("kv_lora_rank"):
        return _latent_attention(read, hidden, heads, latent)
    each = []
    for block in read.parts("block_configs"):
        attention = block.part("attention")
        group = attention.count("n_heads_in_group")
        plain = hidden * head_dim * 2 * (heads + heads // group) if group else 0
        each.append(hidden * hidden if attention.flag("replace_with_linear", default=False) else plain)
    return round(sum(each) / len(each)) if each else 0


def _feed_forward(read: Fields, hidden: int) -> int:
    """The width; of blocks that differ the mean, so that their sum is right."""
    widths = []
    for block in read.parts("block_configs"):
        ffn = block.part("ffn")
        multiple = ffn.raw("ffn_mult")
        times = float(multiple) if isinstance(multiple, int | float) and 0 < multiple < 1000 else 0.0
        width = -(-int(2 * times * hidden / 3) // 256) * 256
        widths.append(hidden / 3 if ffn.flag("replace_with_linear", default=False) else width)
    return round(sum(widths) / len(widths)) if widths else read.count("intermediate_size", 4 * hidden)


def _looking_back(read: Fields, layers: int) -> list[tuple[bool, int]]:
    """Of each layer, whether it keeps keys and values, and the tokens it looks back; 0: all."""
    window = read.count("sliding_window") if read.flag("use_sliding_window", default=True) else 0
    kinds = read.raw("layer_types")
    if isinstance(kinds, list):
        if len(kinds) != layers:
            raise read.wrong("layer_types", f"must have an entry for each of {layers} layers")
        spans = {"sliding_attention": window, "chunked_attention": read.count("attention_chunk_size")}
        return [(kind not in _KEEP_NOTHING, spans.get(kind, 0)) for kind in map(str, kinds)]
    if interval := read.count("full_attention_interval"):
        return [((layer + 1) % interval == 0, 0) for layer in range(layers)]
    if period := read.count("sliding_window_pattern"):
        return [(True, window if (layer + 1) % period else 0) for layer in range(layers)]
    return [(True, window if read.text("model_type") == "mistral" else 0)] * layers


def _latent_attention(read: Fields, hidden: int, heads: int, latent: int) -> int:
    """Weights of one layer's multi-head latent attention (arXiv 2405.04434)."""
    rope, nope = read.count("qk_rope_head_dim"), read.count("qk_nope_head_dim", 128)
    value, query = read.count("v_head_dim", 128), read.count("q_lora_rank")
    per_head = heads * (nope + rope)
    queries = (hidden + per_head) * query if query else hidden * per_head
    return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden


# ------------------------------------------------------------ quantization


def quantization_of(path: Path, config: Mapping[str, object]) -> StatedQuantization:
    """What ``quantization_config`` says; without one, the type of the weights. Raises BadModelFile."""
    whole = Fields(path, config)
    key = next((one for one in ("quantization_config", "compression_config") if config.get(one) is not None), "")
    stated = whole.part(key) if key else Fields(path, {})
    method = stated.text("quant_method").lower().replace("_", "-")
    if not method and (apple := _mlx(path, config)):
        return apple
    if not key:
        return _unquantized(_text_fields(path, config))
    if not method:
        raise BadModelFile(path, f"field {key}.quant_method is missing", "it must name the method")
    bits = stated.count("bits") or stated.count("w_bit")
    match method:
        case "awq" | "gptq":
            return StatedQuantization(name=canonical(f"{method}-int{bits or 4}"), method=method, bits=bits or 4)
        case "fp8" | "fbgemm-fp8":
            return StatedQuantization(name="fp8", method="fp8", bits=8)
        case "compressed-tensors" | "modelopt" | "modelopt-fp4":
            return _by_groups(stated, method)
        case "bitsandbytes":
            return _bitsandbytes(stated)
        case _:
            known = find_format(method)
            return StatedQuantization(name=known.name if known else method, method=method, bits=bits or 4)


def _mlx(path: Path, config: Mapping[str, object]) -> StatedQuantization | None:
    """Apple's MLX names no method: an object ``quantization`` with the size of its groups, and perhaps a copy of it."""
    stated = config.get("quantization") or config.get("quantization_config")
    if not isinstance(stated, Mapping) or "group_size" not in stated:
        return None
    bits = Fields(path, stated, "quantization.").count("bits")
    return StatedQuantization(name=f"mlx-{bits}bit", method="mlx", bits=bits) if bits else None


def _unquantized(read: Fields) -> StatedQuantization:
    plain = (read.text("dtype") or read.text("torch_dtype") or "bfloat16").removeprefix("torch.")
    known = find_format(plain)
    return StatedQuantization(
        name=known.name if known else plain, method="safetensors", bits=round(known.bits_per_weight) if known else 16
    )


def _bitsandbytes(stated: Fields) -> StatedQuantization:
    if not (stated.flag("load_in_4bit", default=False) or stated.flag("_load_in_4bit", default=False)):
        return StatedQuantization(name="int8", method="bitsandbytes", bits=8)
    kind = stated.text("bnb_4bit_quant_type") or "nf4"
    return StatedQuantization(name=kind if kind == "nf4" else f"bnb-{kind}", method="bitsandbytes", bits=4)


def _by_groups(stated: Fields, method: str) -> StatedQuantization:
    """compressed-tensors and ModelOpt tell weights and activations of each group of layers; the fewest bits name it."""
    groups = stated.part("config_groups")
    told = [_group(groups.part(name)) for name in groups.names()] or [("", 0, 0)]
    kind, bits, activations = min(told, key=lambda one: one[1])
    layout = f"{stated.text('format')} {stated.text('quant_algo')} {method}".lower()
    if "nvfp4" in layout or method == "modelopt-fp4":
        return StatedQuantization(name="nvfp4", method=method, bits=4)
    if "mxfp4" in layout:
        return StatedQuantization(name="mxfp4", method=method, bits=4)
    if not bits and method == "modelopt":
        return StatedQuantization(name=canonical(stated.text("quant_algo") or "fp8"), method=method, bits=8)
    if kind == "float":
        name = {4: "nvfp4", 8: "fp8"}.get(bits, f"float{bits}")
        return StatedQuantization(name=name, method=method, bits=bits or 8)
    scheme = f"w{bits or 8}a{activations or 16}"
    known = find_format(scheme)
    return StatedQuantization(name=known.name if known else scheme, method=method, bits=bits or 8)


def _group(group: Fields) -> tuple[str, int, int]:
    """Type and bits of its weights, bits of its activations (0: as the model's)."""
    weights, inputs = group.part("weights"), group.part("input_activations")
    return weights.text("type"), weights.count("num_bits", 8), inputs.count("num_bits")
