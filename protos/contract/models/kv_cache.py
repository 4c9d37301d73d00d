"""The KV cache's size, reckoned in one place: for planning, for a worker's check before it loads, for simulations.

Bytes of one token are the sum over layers of kv_heads times (head_dim_k and head_dim_v) times the bytes of a number; a
layer with a sliding window holds min(context, window) tokens (FACTS.md, "KV cache").
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from protos.contract.models.model_shape import KvLayers, ModelShape

KV_BYTES: Mapping[str, float] = {"f16": 2.0, "fp8": 1.0, "q8_0": 1.0625, "q4_0": 0.5625}
"""Bytes of one number, by the cache's format (FACTS.md, "KV cache")."""


def kv_layers(shape: ModelShape) -> tuple[KvLayers, ...]:
    """The layers, those that keep alike together."""
    return shape.kv_layers or (
        KvLayers(layers=shape.layers, keys=shape.kv_heads * shape.head_dim_k, values=shape.kv_heads * shape.head_dim_v),
    )


def kv_cache_bytes(
    shape: ModelShape, context_tokens: int, *, sequences: int = 1, kv_format: str = "f16", windows: bool = True
) -> float:
    """Keys and values of so many sequences of ``context_tokens`` each.

    ``windows`` False: of an engine that keeps the whole context in every layer, whatever the layer looks back on.
    """

    def held(one: KvLayers) -> int:
        return min(context_tokens, one.window) if windows and one.window else context_tokens

    numbers = sum(one.layers * (one.keys + one.values) * held(one) for one in kv_layers(shape))
    return sequences * numbers * KV_BYTES[kv_format]


def kv_bytes_per_token(shape: ModelShape, kv_format: str = "f16") -> int:
    """What one more token adds, while every window has room."""
    return round(kv_cache_bytes(shape, 1, kv_format=kv_format))


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
