"""Small GGUF files, written by hand: a header as ggml's ``docs/gguf.md`` describes it, and weights of zeros."""

import struct
from collections.abc import Mapping
from typing import Any

Tensor = tuple[str, tuple[int, ...], int, int]
"""Name, dimensions, ggml type, bytes."""

LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 15,
    "llama.block_count": 4,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.context_length": 2048,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.scores": [0.5] * 3,
}
"""Fields of a model of four layers."""

WEIGHTS: tuple[Tensor, ...] = (("token_embd.weight", (64, 3), 1, 384), ("blk.0.ffn_up.weight", (256, 2), 12, 288))
"""An F16 and a Q4_K tensor: 192 and 512 weights, 384 and 288 bytes."""


def gguf_bytes(fields: Mapping[str, Any] = LLAMA, tensors: tuple[Tensor, ...] = WEIGHTS, *, version: int = 3) -> bytes:
    """A whole file."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(fields))
    head += b"".join(_text(key) + _value(value) for key, value in fields.items())
    offset, infos, data = 0, b"", b""
    for name, dimensions, kind, size in tensors:
        infos += _text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        padded = -(-size // 32) * 32
        data += bytes(padded)
        offset += padded
    head += infos
    return head + bytes(-len(head) % 32) + data


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int() if 0 <= value < 2**32:
            return struct.pack("<II", 4, value)  # as converters write what fits: llama.cpp takes no other
        case int():
            return struct.pack("<IQ", 10, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
    if all(type(one) is int and -(2**31) <= one < 2**31 for one in value):
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    kind = {str: 8, float: 6, bool: 7}.get(type(value[0]), 10)
    entries = b"".join(struct.pack("<Q", one) if kind == 10 else _value(one)[4:] for one in value)
    return struct.pack("<IIQ", 9, kind, len(value)) + entries
