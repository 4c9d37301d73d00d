"""The KV cache's size: one reckoning for planning, for the worker's check and for simulations."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.models.kv_cache import (
    KV_BYTES,
    LLAMA_CPP_LAYOUT,
    grouped,
    kv_bytes_per_token,
    kv_cache_bytes,
    kv_layers,
)
from protos.contract.models.model_shape import KvLayers, ModelShape
from router.capacity.fit import Plan, kv_bytes
from router.capacity.shapes import KNOWN_SHAPES, find_shape

layers = st.builds(
    KvLayers,
    layers=st.just(1),
    keys=st.sampled_from([0, 64, 512]),
    values=st.sampled_from([0, 64]),
    window=st.sampled_from([0, 128, 1024]),
)


def known(name: str) -> ModelShape:
    shape = find_shape(name)
    assert shape is not None
    return shape


def test_kv_cache_is_what_was_measured() -> None:
    """Llama-3-8B 128 KiB a token at f16, Llama-3.3-70B 320 KiB (FACTS.md)."""
    for name, kib in (("llama-3.1-8b", 128), ("llama-3.3-70b", 320)):
        assert kv_bytes_per_token(known(name)) == kib * 1024


def test_windowed_layers_hold_their_window_only() -> None:
    """Half of gpt-oss' layers look back 128 tokens; an engine that keeps all holds the whole context in those too."""
    shape = known("gpt-oss-20b")
    short, long = kv_cache_bytes(shape, 128), kv_cache_bytes(shape, 12800)
    assert long == short / 2 + short / 2 * 100
    assert kv_cache_bytes(shape, 12800, layout=LLAMA_CPP_LAYOUT) == 100 * short


def test_sequences_and_formats_multiply() -> None:
    """By the bytes of a number; a token's share is rounded to whole bytes."""
    shape = known("llama-3.1-8b")
    assert kv_cache_bytes(shape, 100, sequences=3, kv_format="q8_0") == 300 * 65536 * KV_BYTES["q8_0"]
    assert kv_bytes_per_token(shape, "fp8") == 65536


def test_planning_counts_the_same() -> None:
    """Every known shape, with windows and without."""
    for shape in KNOWN_SHAPES:
        plan = Plan(context_tokens=5000, batch=3, kv_format="fp8")
        assert kv_bytes(shape, plan) == kv_cache_bytes(shape, 5000, sequences=3, kv_format="fp8")


def test_layers_that_are_all_alike_need_no_kinds() -> None:
    """A shape that says nothing means the same."""
    alike = KvLayers(layers=1, keys=8, values=8)
    assert grouped([alike] * 4) == ()
    assert grouped([]) == ()
    assert grouped([replace(alike, window=64)] * 4) == (KvLayers(layers=4, keys=8, values=8, window=64),)


@given(each=st.lists(layers, min_size=1, max_size=12), context=st.integers(1, 5000))
def test_kinds_hold_what_their_layers_hold(each: list[KvLayers], context: int) -> None:
    """Grouping loses no layer and no byte, and says nothing only of what is uniform."""
    first = each[0]
    shape = replace(
        known("llama-3.1-8b"), layers=len(each), kv_heads=1, head_dim_k=first.keys, head_dim_v=first.values,
        kv_layers=grouped(each),
    )  # fmt: skip
    assert sum(one.layers for one in kv_layers(shape)) == len(each)
    held = sum((one.keys + one.values) * min(context, one.window or context) for one in each)
    assert kv_cache_bytes(shape, context) == 2 * held
