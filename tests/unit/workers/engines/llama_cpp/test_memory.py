"""What does not fit is refused before it is loaded, with figures and what to change."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.models.model_shape import KvLayers, ModelShape
from workers.engines.base import LoadError
from workers.engines.llama_cpp.memory import PLATFORM_BYTES, refuse_if_too_large
from workers.engines.llama_cpp.options import Options

GIB = 2**30
LLAMA_8B_Q4_K_M = ModelShape(
    name="llama-3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim_k=128, head_dim_v=128,
    feed_forward=14336, vocabulary=128256, context_tokens=131072, quantization="q4_k_m",
    weights_bytes=int(4.6 * GIB),
)  # fmt: skip
OPTIONS = Options(context_tokens=8192, slots=8)
ROWS = 8 + OPTIONS.prefill_tokens
BUFFERS = 4 * ROWS * (128256 + 4 * 4096 + 2 * 14336) + 2 * ROWS * 8192 + 4 * 8 * 128256
CACHE = 8 * 8192 * 128 * 1024  # 128 KiB a token (FACTS, KV cache)


def test_weights_cache_logits_and_overhead_count() -> None:
    """At exactly what is needed it fits; one byte less does not."""
    needed = LLAMA_8B_Q4_K_M.weights_bytes + CACHE + BUFFERS + PLATFORM_BYTES
    refuse_if_too_large(Path("m.gguf"), LLAMA_8B_Q4_K_M, OPTIONS, needed, PLATFORM_BYTES)
    with pytest.raises(LoadError):
        refuse_if_too_large(Path("m.gguf"), LLAMA_8B_Q4_K_M, OPTIONS, needed - 1, PLATFORM_BYTES)


def test_the_refusal_says_what_is_needed_and_what_to_lower() -> None:
    """Both parts of the sum, what there is, and the two ways out."""
    with pytest.raises(LoadError) as caught:
        refuse_if_too_large(Path("m.gguf"), LLAMA_8B_Q4_K_M, OPTIONS, 8 * GIB, PLATFORM_BYTES)
    line = str(caught.value)
    assert "4.6 for weights" in line
    assert "8.0 for the KV cache of 8 sequences of 8192 tokens" in line
    assert "8.0 GiB can be taken here" in line
    assert "lower --context or --slots" in line


def test_memory_nobody_knows_refuses_nothing() -> None:
    """A Mac whose working set could not be asked still loads what its owner wants."""
    refuse_if_too_large(Path("m.gguf"), replace(LLAMA_8B_Q4_K_M, weights_bytes=10**15), OPTIONS, 0, PLATFORM_BYTES)


def test_windows_save_nothing_where_the_engine_keeps_everything() -> None:
    """llama.cpp allocates the whole context for layers with a sliding window too: what is said is what it takes."""
    sliding = replace(LLAMA_8B_Q4_K_M, kv_layers=(KvLayers(layers=32, keys=1024, values=1024, window=512),))
    needed = sliding.weights_bytes + CACHE + BUFFERS + PLATFORM_BYTES
    refuse_if_too_large(Path("m.gguf"), sliding, OPTIONS, needed, PLATFORM_BYTES)
    with pytest.raises(LoadError):
        refuse_if_too_large(Path("m.gguf"), sliding, OPTIONS, needed - 1, PLATFORM_BYTES)
