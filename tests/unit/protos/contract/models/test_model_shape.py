"""What follows from a model's shape."""

from dataclasses import replace

import pytest

from protos.contract.models.instance import instance_of
from protos.contract.models.model_shape import ModelShape

DENSE = ModelShape(
    name="llama-3.1-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim_k=128, head_dim_v=128,
    feed_forward=14336, vocabulary=128256, context_tokens=131072,
)  # fmt: skip


def test_parameters_follow_from_the_widths_unless_they_were_counted() -> None:
    """8,030,261,248 as published; shared embeddings count once."""
    assert DENSE.parameters == DENSE.active_parameters == 8_030_261_248
    assert replace(DENSE, stated_parameters=8_000_000_000).parameters == 8_000_000_000
    assert DENSE.parameters - replace(DENSE, tied_embeddings=True).parameters == 128256 * 4096
    assert DENSE.embedding_parameters == 2 * 128256 * 4096


def test_of_experts_those_in_use_and_those_shared_are_active() -> None:
    """Whatever the experts are, attention and embeddings are read too."""
    mixture = replace(DENSE, experts=8, experts_used=2)
    expert = 3 * 4096 * 14336 * 32
    assert mixture.parameters - mixture.active_parameters == 6 * expert
    assert replace(mixture, shared_experts=1).active_parameters == mixture.active_parameters + expert


def test_bits_are_of_the_whole_file() -> None:
    """Nothing is said of a model without a file."""
    assert replace(DENSE, stated_parameters=1000, weights_bytes=500).bits_per_weight == 4.0
    assert DENSE.bits_per_weight == 0.0


def test_a_worker_reports_what_the_shape_tells() -> None:
    """The cache of a token at the format it is held in."""
    stored = replace(DENSE, weights_bytes=10**9, quantization="q4_k_m", lineage="requantized from q4_1")
    told = instance_of(stored, model="llama", file_format="gguf", file="llama.gguf", kv_format="fp8")
    assert (told.model, told.quantization, told.format, told.file) == ("llama", "q4_k_m", "gguf", "llama.gguf")
    assert (told.parameters, told.layers, told.kv_heads, told.context_tokens) == (8_030_261_248, 32, 8, 131072)
    assert told.kv_bytes_per_token == 64 * 1024
    assert told.bits_per_weight == pytest.approx(0.996, abs=0.001)
    assert told.lineage == "requantized from q4_1"
