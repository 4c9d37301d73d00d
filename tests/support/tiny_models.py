"""Tiny GGUF models of every kind of attention that llama.cpp loads: its tensors, of zeros, and no vocabulary of words.

Small enough to be made in a test, and real: llama.cpp's own loader takes them and allocates as for large ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.gguf_files import Tensor, gguf_bytes

VOCABULARY, HIDDEN, FEED_FORWARD = 320, 64, 128
F32, F16, MXFP4 = 0, 1, 39
_BYTES = {F32: (1, 4), F16: (1, 2), MXFP4: (32, 17)}


def write(
    folder: Path,
    arch: str,
    fields: Mapping[str, Any],
    layers: list[dict[str, tuple[int, ...]]],
    **whole: tuple[int, ...],
) -> Path:
    """One model. ``layers``: of each its tensors, dimensions in ggml's order; ``whole``: those outside of layers."""
    head: dict[str, Any] = {
        "general.architecture": arch,
        "general.file_type": 1,
        "tokenizer.ggml.model": "no_vocab",
        f"{arch}.vocab_size": VOCABULARY,
        f"{arch}.block_count": len(layers),
        f"{arch}.embedding_length": HIDDEN,
        f"{arch}.context_length": 32768,
        f"{arch}.feed_forward_length": FEED_FORWARD,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-6,
        **{f"{arch}.{key}": value for key, value in fields.items()},
    }
    named = {"token_embd": (HIDDEN, VOCABULARY), "output_norm": (HIDDEN,)} | whole
    named = {name: shape for name, shape in named.items() if shape}
    named |= {f"blk.{number}.{name}": shape for number, layer in enumerate(layers) for name, shape in layer.items()}
    path = folder / f"{arch}.gguf"
    path.write_bytes(gguf_bytes(head, tuple(_tensor(name, shape) for name, shape in named.items())))
    return path


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    base, _, suffix = name.partition("|")
    kind = MXFP4 if suffix == "mxfp4" else F32 if len(shape) == 1 or suffix == "f32" else F16
    weights = 1
    for side in shape:
        weights *= side
    block, size = _BYTES[kind]
    full = base if base.endswith(("bias", "ssm_a", "ssm_d")) else f"{base}.weight"
    return full, shape, kind, weights // block * size


def attention(heads: int = 4, kv_heads: int = 2, head_dim: int = 16) -> dict[str, tuple[int, ...]]:
    """Plain attention's tensors."""
    return {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, heads * head_dim),
        "attn_k": (HIDDEN, kv_heads * head_dim),
        "attn_v": (HIDDEN, kv_heads * head_dim),
        "attn_output": (heads * head_dim, HIDDEN),
    }


def feed_forward() -> dict[str, tuple[int, ...]]:
    """A dense layer's."""
    return {
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (HIDDEN, FEED_FORWARD),
        "ffn_up": (HIDDEN, FEED_FORWARD),
        "ffn_down": (FEED_FORWARD, HIDDEN),
    }


def experts(count: int = 4, width: int = 64, suffix: str = "") -> dict[str, tuple[int, ...]]:
    """A layer's of experts, and their router."""
    return {
        "ffn_norm": (HIDDEN,),
        "ffn_gate_inp|f32": (HIDDEN, count),
        f"ffn_gate_exps{suffix}": (HIDDEN, width, count),
        f"ffn_up_exps{suffix}": (HIDDEN, width, count),
        f"ffn_down_exps{suffix}": (width, HIDDEN, count),
    }


HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}


def dense(folder: Path) -> Path:
    """Grouped-query attention, every layer in full."""
    return write(folder, "llama", HEADS, [{**attention(), **feed_forward()} for _ in range(4)])


def mixture(folder: Path) -> Path:
    """Experts."""
    fields = {**HEADS, "expert_count": 4, "expert_used_count": 2}
    return write(folder, "llama", fields, [{**attention(), **experts(width=FEED_FORWARD)} for _ in range(4)])


def sliding(folder: Path) -> Path:
    """Gemma 3: five layers of six look back 64 tokens."""
    norms = {"attn_q_norm": (32,), "attn_k_norm": (32,), "post_attention_norm": (HIDDEN,), "post_ffw_norm": (HIDDEN,)}
    fields = {
        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 32,
        "attention.value_length": 32, "attention.sliding_window": 64, "rope.freq_base": 1e6,
    }  # fmt: skip
    return write(folder, "gemma3", fields, [{**attention(2, 1, 32), **feed_forward(), **norms} for _ in range(6)])


def alternating(folder: Path) -> Path:
    """gpt-oss: every other layer looks back 128 tokens; experts in MXFP4."""
    fields = {
        **HEADS, "attention.key_length": 16, "attention.value_length": 16, "attention.sliding_window": 128,
        "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64, "rope.freq_base": 1.5e5,
    }  # fmt: skip
    more = {
        "attn_sinks": (4,), "post_attention_norm": (HIDDEN,), "attn_q.bias": (64,), "attn_k.bias": (32,),
        "attn_v.bias": (32,), "attn_output.bias": (HIDDEN,), "ffn_gate_inp.bias": (4,),
        "ffn_gate_exps.bias|f32": (64, 4),
        "ffn_up_exps.bias|f32": (64, 4), "ffn_down_exps.bias|f32": (HIDDEN, 4),
    }  # fmt: skip
    of_experts = {key: shape for key, shape in experts(suffix="|mxfp4").items() if key != "ffn_norm"}
    return write(folder, "gpt-oss", fields, [{**attention(), **of_experts, **more} for _ in range(4)],
                 output=(HIDDEN, VOCABULARY))  # fmt: skip


def latent(folder: Path, *, by_mla_keys: bool = True) -> Path:
    """DeepSeek 2: keys and values of all heads in one vector; files without the keys for it keep every head's."""
    heads, rank, rope, nope, value, queries = 4, 32, 16, 16, 16, 24
    fields: dict[str, Any] = {
        "attention.head_count": heads, "attention.head_count_kv": 1 if by_mla_keys else heads,
        "attention.kv_lora_rank": rank, "attention.q_lora_rank": queries, "rope.dimension_count": rope,
        "attention.key_length": rank + rope if by_mla_keys else nope + rope,
        "attention.value_length": rank if by_mla_keys else value, "leading_dense_block_count": 3,
        "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64, "expert_shared_count": 1,
        "expert_weights_scale": 1.0,
    }  # fmt: skip
    if by_mla_keys:
        fields |= {"attention.key_length_mla": nope + rope, "attention.value_length_mla": value}
    up = {"attn_k_b": (nope, rank, heads), "attn_v_b": (rank, value, heads)} if by_mla_keys else {
        "attn_kv_b": (rank, heads * (nope + value))
    }  # fmt: skip
    layer = {
        "attn_norm": (HIDDEN,), "attn_q_a": (HIDDEN, queries), "attn_q_a_norm": (queries,),
        "attn_q_b": (queries, heads * (nope + rope)), "attn_kv_a_mqa": (HIDDEN, rank + rope),
        "attn_kv_a_norm": (rank,), "attn_output": (heads * value, HIDDEN), **up, **feed_forward(),
    }  # fmt: skip
    return write(folder, "deepseek2", fields, [layer] * 3, output=(HIDDEN, VOCABULARY))


def convolutions(folder: Path) -> Path:
    """LFM 2: layers without keys and values say so by 0 heads."""
    kv_heads = [0, 2, 0, 2]
    conv = {
        "attn_norm": (HIDDEN,), "shortconv.conv|f32": (3, HIDDEN), "shortconv.in_proj": (HIDDEN, 3 * HIDDEN),
        "shortconv.out_proj": (HIDDEN, HIDDEN), **feed_forward(),
    }  # fmt: skip
    full = {**attention(), "attn_q_norm": (16,), "attn_k_norm": (16,), **feed_forward()}
    fields = {"attention.head_count": 4, "attention.head_count_kv": kv_heads, "shortconv.l_cache": 3,
              "rope.freq_base": 1e6}  # fmt: skip
    return write(
        folder, "lfm2", fields, [full if one else conv for one in kv_heads], token_embd_norm=(HIDDEN,), output_norm=()
    )


def state_space(folder: Path) -> Path:
    """Mamba: no attention at all, a state of fixed size."""
    inner, state, rank, conv = 128, 16, 4, 4
    fields = {
        "attention.head_count": 0, "feed_forward_length": 0, "ssm.conv_kernel": conv, "ssm.inner_size": inner,
        "ssm.state_size": state, "ssm.time_step_rank": rank,
    }  # fmt: skip
    layer = {
        "attn_norm": (HIDDEN,), "ssm_in": (HIDDEN, 2 * inner), "ssm_conv1d|f32": (conv, inner),
        "ssm_conv1d.bias": (inner,), "ssm_x": (inner, rank + 2 * state), "ssm_dt|f32": (rank, inner),
        "ssm_dt.bias": (inner,), "ssm_a|f32": (state, inner), "ssm_d": (inner,), "ssm_out": (inner, HIDDEN),
    }  # fmt: skip
    return write(folder, "mamba", fields, [layer] * 3)


def linear(folder: Path) -> Path:
    """Qwen3-Next: three layers of four with linear attention, experts in all."""
    heads, key, values, conv = 2, 16, 4, 4
    inner = values * key
    fields = {
        **HEADS, "attention.key_length": 16, "attention.value_length": 16, "full_attention_interval": 4,
        "ssm.conv_kernel": conv, "ssm.inner_size": inner, "ssm.state_size": key, "ssm.time_step_rank": values,
        "ssm.group_count": heads, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64,
        "expert_shared_feed_forward_length": 64, "rope.dimension_count": 8, "rope.freq_base": 1e6,
    }  # fmt: skip
    of_experts = {name: shape for name, shape in experts().items() if name != "ffn_norm"} | {
        "post_attention_norm": (HIDDEN,), "ffn_gate_inp_shexp": (HIDDEN,), "ffn_gate_shexp": (HIDDEN, 64),
        "ffn_up_shexp": (HIDDEN, 64), "ffn_down_shexp": (64, HIDDEN),
    }  # fmt: skip
    full = {
        **attention(), "attn_q": (HIDDEN, 2 * 4 * 16), "attn_q_norm": (16,), "attn_k_norm": (16,), **of_experts,
    }  # fmt: skip
    recurrent = {
        "attn_norm": (HIDDEN,), "attn_qkv": (HIDDEN, 2 * heads * key + inner), "attn_gate": (HIDDEN, inner),
        "ssm_conv1d|f32": (conv, 2 * heads * key + inner), "ssm_dt.bias": (values,), "ssm_a": (values,),
        "ssm_ba": (HIDDEN, 2 * values), "ssm_norm": (key,), "ssm_out": (inner, HIDDEN), **of_experts,
    }  # fmt: skip
    return write(folder, "qwen3next", fields, [full if (one + 1) % 4 == 0 else recurrent for one in range(4)],
                 output=(HIDDEN, VOCABULARY))  # fmt: skip
