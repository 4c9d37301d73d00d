"""Shapes from what model files say of themselves: a GGUF header's fields, a Hugging Face config.json.

Pure: the reading is in ``router.cli.support.model_files``. Errors name the file and the field.
"""

import math
from collections.abc import Mapping
from typing import Any

from router.capacity.formats import find_format, parse_name
from router.capacity.shapes import ModelShape
from router.errors import ConfigError

FILE_TYPES: dict[int, str] = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s",
    12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k",
    19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl",
    26: "iq3_s", 27: "iq3_m", 28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16", 38: "mxfp4",
}  # fmt: skip
"""llama.cpp's ``llama_ftype``, as ``general.file_type`` holds it."""

_LIMIT = 2**40
"""No count in a header is larger; one that is was never a model's."""


def shape_from_gguf(
    source: str, fields: Mapping[str, Any], *, parameters: int, weights_bytes: int, tensors: frozenset[str]
) -> ModelShape:
    """The shape of a GGUF file. ``fields``: its key-value pairs, an array of more than numbers as its length."""
    read = _Fields(source, fields)
    arch = read.text("general.architecture")
    if not arch:
        raise ConfigError(f"{source}: field general.architecture is missing; is this a model's GGUF file?")
    heads = read.count(f"{arch}.attention.head_count", needed=True)
    hidden = read.count(f"{arch}.embedding_length", needed=True)
    layers = read.count(f"{arch}.block_count", needed=True)
    head_dim = hidden // max(1, heads)
    window = read.count(f"{arch}.attention.sliding_window")
    file_type = read.count("general.file_type", default=-1)
    latent = read.count(f"{arch}.attention.kv_lora_rank")
    quantization = FILE_TYPES.get(file_type, "")
    if not quantization:
        named = parse_name(source).format
        quantization = named.name if named else ""
    return ModelShape(
        name=read.text("general.name") or parse_name(source).model,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=1 if latent else read.count(f"{arch}.attention.head_count_kv", default=heads),
        head_dim_k=latent + read.count(f"{arch}.rope.dimension_count")
        if latent
        else read.count(f"{arch}.attention.key_length", default=head_dim),
        head_dim_v=0 if latent else read.count(f"{arch}.attention.value_length", default=head_dim),
        feed_forward=read.count(f"{arch}.expert_feed_forward_length")
        or read.count(f"{arch}.feed_forward_length", default=4 * hidden),
        vocabulary=read.count("tokenizer.ggml.tokens") or read.count(f"{arch}.vocab_size", default=32000),
        context_tokens=read.count(f"{arch}.context_length"),
        tied_embeddings="output.weight" not in tensors,
        experts=read.count(f"{arch}.expert_count"),
        experts_used=read.count(f"{arch}.expert_used_count"),
        shared_experts=read.count(f"{arch}.expert_shared_count"),
        dense_layers=read.count(f"{arch}.leading_dense_block_count"),
        dense_feed_forward=read.count(f"{arch}.feed_forward_length"),
        sliding_window=window,
        sliding_layers=_sliding_of(arch, layers) if window else 0,
        stated_parameters=parameters,
        weights_bytes=weights_bytes,
        quantization=quantization,
    )


_SLIDING: dict[str, tuple[int, int]] = {"gemma2": (1, 2), "gemma3": (5, 6), "gpt-oss": (1, 2), "phi3": (1, 1)}
"""Of how many layers, how many slide (llama.cpp ``src/llama-model.cpp``, set_swa_pattern). Others: none is counted,
which asks for too much memory rather than too little."""


def _sliding_of(arch: str, layers: int) -> int:
    sliding, of = _SLIDING.get(arch, (0, 1))
    return layers * sliding // of


def shape_from_config(source: str, config: Mapping[str, Any], *, weights_bytes: int = 0) -> ModelShape:
    """The shape a Hugging Face config.json describes. ``weights_bytes``: of the files beside it, if any."""
    whole, text = config, config.get("text_config")
    read = _Fields(source, {**config, **text} if isinstance(text, Mapping) else config)
    heads = read.count("num_attention_heads", needed=True)
    hidden = read.count("hidden_size", needed=True)
    layers = read.count("num_hidden_layers", needed=True)
    head_dim = read.count("head_dim", default=hidden // max(1, heads))
    latent = read.count("kv_lora_rank")
    window = read.count("sliding_window") if read.flag("use_sliding_window", default=True) else 0
    experts = read.count("num_local_experts") or read.count("num_experts") or read.count("n_routed_experts")
    feed_forward = read.count("intermediate_size", default=4 * hidden)
    return ModelShape(
        name=_config_name(source, read),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=1 if latent else read.count("num_key_value_heads", default=heads),
        head_dim_k=latent + read.count("qk_rope_head_dim") if latent else head_dim,
        head_dim_v=0 if latent else head_dim,
        feed_forward=read.count("moe_intermediate_size", default=feed_forward) if experts else feed_forward,
        vocabulary=read.count("vocab_size", needed=True),
        context_tokens=read.count("max_position_embeddings"),
        tied_embeddings=read.flag("tie_word_embeddings", default=False),
        experts=experts,
        experts_used=read.count("num_experts_per_tok", default=min(2, experts)) if experts else 0,
        shared_experts=read.count("n_shared_experts"),
        dense_layers=read.count("first_k_dense_replace") if experts else 0,
        dense_feed_forward=feed_forward if experts else 0,
        sliding_window=window,
        sliding_layers=_sliding_layers(read, layers) if window else 0,
        attention_parameters=_latent_attention(read, hidden, heads, latent) if latent else 0,
        weights_bytes=weights_bytes,
        quantization=quantization_of_config(source, whole),
    )


def quantization_of_config(source: str, config: Mapping[str, Any]) -> str:
    """The canonical name of what ``quantization_config`` (or ``torch_dtype``) says. Raises ConfigError."""
    stated = config.get("quantization_config")
    if stated is None:
        dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16").removeprefix("torch.")
        known = find_format(dtype)
        return known.name if known else "bf16"
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{source}: field quantization_config must be an object, not {stated!r}")
    method = str(stated.get("quant_method") or "").lower()
    bits = stated.get("bits") or stated.get("w_bit") or _compressed_bits(stated)
    found = _METHODS.get((method, int(bits) if isinstance(bits, int | float) and math.isfinite(bits) else 0))
    found = found or _METHODS.get((method, 0))
    if method == "bitsandbytes":
        found = "nf4" if stated.get("load_in_4bit") or stated.get("_load_in_4bit") else "int8"
    if method == "compressed-tensors" and "float" in str(_weights_of(stated).get("type")):
        found = "fp8"
    if not found:
        raise ConfigError(
            f"{source}: field quantization_config.quant_method: {method or 'missing'!r} with {bits or 'no'} bits is "
            "not known here; known are awq, gptq, fp8, compressed-tensors, bitsandbytes and mxfp4"
        )
    return found


_METHODS: dict[tuple[str, int], str] = {
    ("awq", 4): "awq", ("awq", 0): "awq", ("gptq", 4): "gptq", ("gptq", 8): "gptq-int8", ("gptq", 0): "gptq",
    ("fp8", 0): "fp8", ("fbgemm_fp8", 0): "fp8", ("modelopt", 0): "fp8", ("mxfp4", 0): "mxfp4",
    ("compressed-tensors", 4): "gptq", ("compressed-tensors", 8): "int8",
}  # fmt: skip
"""By method and bits; 0: whatever the bits. Compressed-tensors' W4A16 is stored like GPTQ's groups."""


def _weights_of(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    groups = stated.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def _compressed_bits(stated: Mapping[str, Any]) -> Any:
    return _weights_of(stated).get("num_bits")


def _config_name(source: str, read: "_Fields") -> str:
    stated = read.text("_name_or_path").rstrip("/")
    folder = source.replace("\\", "/").rsplit("/", 2)
    if stated:
        return stated.rsplit("/", 1)[-1]
    return folder[-2] if len(folder) > 1 and folder[-2] not in ("", ".", "..") else read.text("model_type") or "model"


def _sliding_layers(read: "_Fields", layers: int) -> int:
    kinds = read.raw("layer_types")
    if isinstance(kinds, list):
        return min(layers, kinds.count("sliding_attention"))
    pattern = read.count("sliding_window_pattern")
    if pattern:
        return layers - layers // pattern
    return layers if read.text("model_type") == "mistral" else 0


def _latent_attention(read: "_Fields", hidden: int, heads: int, latent: int) -> int:
    """Weights of one layer's multi-head latent attention (arXiv 2405.04434)."""
    rope, nope = read.count("qk_rope_head_dim"), read.count("qk_nope_head_dim", default=128)
    value, query = read.count("v_head_dim", default=128), read.count("q_lora_rank")
    per_head = heads * (nope + rope)
    queries = (hidden + per_head) * query if query else hidden * per_head
    return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden


class _Fields:
    """Numbers, texts and flags of a header; what cannot be is an error that names file and field."""

    def __init__(self, source: str, fields: Mapping[str, Any]) -> None:
        self._source, self._fields = source, fields

    def raw(self, key: str) -> Any:
        return self._fields.get(key)

    def text(self, key: str) -> str:
        value = self._fields.get(key)
        return value if isinstance(value, str) else ""

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._fields.get(key)
        return value if isinstance(value, bool) else default

    def count(self, key: str, *, default: int = 0, needed: bool = False) -> int:
        """A whole number of at least zero (one when needed); of one number per layer, the largest."""
        value = self._fields.get(key)
        if value is None:
            if needed:
                raise ConfigError(f"{self._source}: field {key} is missing; is this a language model's file?")
            return default
        if isinstance(value, list) and value and all(_whole(one) for one in value):
            value = max(value)
        if not _whole(value) or not (1 if needed else -1) <= value < _LIMIT:
            raise ConfigError(f"{self._source}: field {key} must be a whole number, not {str(value)[:60]!r}")
        return int(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
