"""The KV cache's size and what llama.cpp takes around it, reckoned once: the router plans with it, a worker checks
before it loads, simulations follow.

Bytes of one token are the sum over layers of kv_heads times (head_dim_k and head_dim_v) times the bytes of a number; a
layer with a sliding window needs min(context, window) tokens (FACTS.md, "KV cache"). What an engine takes for them is
its ``KvLayout``; layers with a state of fixed size (convolutions, linear attention, state spaces) take that for each
sequence. ``tests/contract/engines/test_llama_cpp_memory.py`` holds all of it against what llama.cpp's own log says, on
a real file of every kind of attention.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos.contract.models.model_shape import KvLayers, ModelShape

KV_BYTES: Mapping[str, float] = {"f16": 2.0, "fp8": 1.0, "q8_0": 1.0625, "q4_0": 0.5625}
"""Bytes of one number, by the cache's format (FACTS.md, "KV cache")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayout:
    """How an engine lays a cache out: whether a layer with a window holds no more than that, and in how many tokens at
    once a sequence's room is taken.
    """

    windows: bool = True
    block_tokens: int = 1

    def held(self, context_tokens: int, window: int) -> int:
        """Tokens one layer has room for."""
        needed = min(context_tokens, window) if self.windows and window else context_tokens
        return -(-needed // self.block_tokens) * self.block_tokens


LLAMA_CPP_LAYOUT = KvLayout(windows=False, block_tokens=256)
"""Its C API keeps the whole context in every layer (``swa_full``), which is what lets a prefix be used again, and
rounds a sequence's context up to 256 (``llama_n_ctx_seq``)."""
VLLM_LAYOUT = KvLayout(windows=True, block_tokens=16)
"""Blocks of 16 on GPUs; its cache manager frees what a window has passed."""


def kv_layers(shape: ModelShape) -> tuple[KvLayers, ...]:
    """The layers, those that keep alike together."""
    return shape.kv_layers or (
        KvLayers(layers=shape.layers, keys=shape.kv_heads * shape.head_dim_k, values=shape.kv_heads * shape.head_dim_v),
    )


def kv_cache_bytes(
    shape: ModelShape,
    context_tokens: int,
    *,
    sequences: int = 1,
    kv_format: str = "f16",
    layout: KvLayout | None = None,
) -> float:
    """Keys and values of so many sequences of ``context_tokens`` each, and their states, as ``layout`` holds them."""
    room = layout or KvLayout()
    numbers = sum(
        one.layers * (one.keys + one.values) * room.held(context_tokens, one.window) for one in kv_layers(shape)
    )
    return sequences * (numbers * KV_BYTES[kv_format] + shape.state_bytes)


def kv_bytes_per_token(shape: ModelShape, kv_format: str = "f16") -> int:
    """What one more token adds, while every window has room."""
    return round(kv_cache_bytes(shape, 1, kv_format=kv_format) - shape.state_bytes)


def grouped(each: Sequence[KvLayers]) -> tuple[KvLayers, ...]:
    """Layers given one by one as a shape has them: those that keep alike together, in the order of their first.

    None where all are alike and look back on everything, which is what a shape means when it says nothing.
    """
    counts = Counter((one.keys, one.values, one.window) for one in each)
    if len(counts) <= 1 and not any(one.window for one in each):
        return ()
    return tuple(
        KvLayers(layers=layers, keys=keys, values=values, window=window)
        for (keys, values, window), layers in counts.items()
    )


# ------------------------------------------------------------ llama.cpp

CHUNK_TOKENS = 512
"""Prompt tokens a step takes on a GPU (llama.cpp's own ``n_ubatch``): an H100 prefilled a 70B with 941 tokens/s at 128
a step, 1218 at 512 and 1222 at 2048 (FACTS.md, "H100, measured")."""
CPU_CHUNK_TOKENS = 128
"""On a processor, where twice as many gain nothing and an abort, like every other stream, waits for a step to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppMemory:
    """Bytes."""

    weights: float
    cache: float
    buffers: float

    @property
    def total(self) -> float:
        """Without what the platform takes."""
        return self.weights + self.cache + self.buffers


def chunk_tokens(hardware_kind: str) -> int:
    """Prompt tokens a step takes unless told otherwise."""
    return CPU_CHUNK_TOKENS if hardware_kind == "cpu" else CHUNK_TOKENS


def llama_cpp_memory(
    shape: ModelShape, context_tokens: int, *, sequences: int, chunk: int, kv_format: str = "f16"
) -> LlamaCppMemory:
    """Of ``sequences`` of ``context_tokens`` each, with ``chunk`` prompt tokens in a step beside theirs."""
    return LlamaCppMemory(
        weights=float(shape.weights_bytes),
        cache=kv_cache_bytes(shape, context_tokens, sequences=sequences, kv_format=kv_format, layout=LLAMA_CPP_LAYOUT),
        buffers=buffers_bytes(shape, context_tokens, sequences=sequences, chunk=chunk),
    )


def buffers_bytes(shape: ModelShape, context_tokens: int, *, sequences: int, chunk: int) -> float:
    """A step's: of every row, logits and the widest layer's numbers at 32 bits, and which tokens of the context it sees
    at 16, once for each cache; and the logits handed out, of every sequence.
    """
    rows = sequences + chunk
    numbers = shape.vocabulary + layer_numbers(shape)
    seen = 2.0 * rows * LLAMA_CPP_LAYOUT.held(context_tokens, 0) * _caches(shape)
    return 4.0 * rows * numbers + seen + 4.0 * sequences * shape.vocabulary


def layer_numbers(shape: ModelShape) -> int:
    """Held of one token inside a layer."""
    return 4 * shape.hidden + 2 * shape.feed_forward * max(1, shape.experts_used + shape.shared_experts)


def _caches(shape: ModelShape) -> int:
    """Layers that look back on everything, and those that do not, each have one."""
    return len({bool(one.window) for one in kv_layers(shape) if one.keys})
