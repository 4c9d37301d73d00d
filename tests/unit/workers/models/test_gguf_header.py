"""The GGUF header reader believes nothing: whatever the bytes, it ends in facts or in one line."""

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.engines.base import LoadError
from workers.models.gguf_file import LINEAGE_KEY, quantization_from_name, read_gguf
from workers.models.gguf_header import BadGguf, read_header


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def pair(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return string(key) + struct.pack("<I", 8) + string(value)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return string(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
    if isinstance(value, list):
        return string(key) + struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)
    return string(key) + struct.pack("<II", 4, value)


METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 7,
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": [2, 1],
    "llama.embedding_length": 64,
    "llama.context_length": 2048,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "ab"],
    "tokenizer.chat_template": "{{ messages }}",
    LINEAGE_KEY: "requantized from q4_1",
}


def gguf(metadata: dict[str, Any] | None = None, *, version: int = 3, kind: int = 8, cut: int = 0) -> bytes:
    """A whole small file: two tensors of 64 x 3 weights."""
    entries = METADATA if metadata is None else metadata
    head = b"GGUF" + struct.pack("<IQQ", version, 2, len(entries))
    head += b"".join(pair(key, value) for key, value in entries.items())
    for number, name in enumerate(("token_embd.weight", "output.weight")):
        head += string(name) + struct.pack("<IQQIQ", 2, 64, 3, kind, number * 224)
    head += b"\0" * (-len(head) % 32)
    data = head + b"\0" * (224 + 204)
    return data[: len(data) - cut]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small-q4_k_m.gguf"
    path.write_bytes(gguf())
    return path


def test_facts_come_from_the_header(file: Path) -> None:
    """Quantization, sizes, shape, vocabulary, lineage; the file's name says otherwise and does not count."""
    facts = read_gguf(file)
    assert facts.quantization == "q8_0"
    assert facts.lineage == "requantized from q4_1"
    assert (facts.layers, facts.kv_heads, facts.head_dim_k, facts.context_tokens) == (2, 2, 16, 2048)
    assert facts.parameters == 2 * 64 * 3
    assert facts.weights_bytes == 2 * 6 * 34
    assert facts.bits_per_weight == 8.5
    assert facts.vocabulary == 3
    assert facts.chat_template == "{{ messages }}"


def test_the_file_name_is_the_last_resort(tmp_path: Path) -> None:
    """Only where the header is silent; and where both are, nothing is claimed."""
    silent = {key: value for key, value in METADATA.items() if key != "general.file_type"}
    path = tmp_path / "Model-7B-Q4_K_M.gguf"
    path.write_bytes(gguf(silent))
    assert read_gguf(path).quantization == "q4_k_m"
    path = path.rename(tmp_path / "model.gguf")
    assert read_gguf(path).quantization == ""


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        ("Llama-3.3-70B-Instruct-Q4_K_M.gguf", "q4_k_m"),
        ("Llama-3.3-70B-Instruct-IQ2_M.gguf", "iq2_m"),
        ("model-Q8_0.gguf", "q8_0"),
        ("model.F16.gguf", "fp16"),
        ("phi-bf16.gguf", "bf16"),
        ("gpt-oss-20b-mxfp4.gguf", "mxfp4"),
        ("q4-is-not-a-format.gguf", ""),
    ],
)
def test_names_as_people_publish_them(name: str, claimed: str) -> None:
    """Canonical: as the rest of the pool writes it."""
    assert quantization_from_name(name) == claimed


def test_the_vocabulary_decides_the_fingerprint(tmp_path: Path) -> None:
    """Other tokens, other fingerprint; another template, the same."""
    one, other, third = (tmp_path / f"{name}.gguf" for name in "abc")
    one.write_bytes(gguf())
    other.write_bytes(gguf({**METADATA, "tokenizer.ggml.tokens": ["a", "b", "ba"]}))
    third.write_bytes(gguf({**METADATA, "tokenizer.chat_template": "{{ other }}"}))
    assert read_gguf(one).tokenizer_fingerprint != read_gguf(other).tokenizer_fingerprint
    assert read_gguf(one).tokenizer_fingerprint == read_gguf(third).tokenizer_fingerprint
    assert read_gguf(one).chat_template_fingerprint != read_gguf(third).chat_template_fingerprint


def test_a_split_model_counts_all_its_parts_and_misses_none(tmp_path: Path) -> None:
    """Memory is judged by the whole; a part that is not there is named."""
    first, second = (tmp_path / f"big-{part:05}-of-00002.gguf" for part in (1, 2))
    first.write_bytes(gguf())
    with pytest.raises(LoadError, match=r"big-00002-of-00002\.gguf: no such file"):
        read_gguf(first)
    second.write_bytes(gguf({"general.architecture": "llama"}))
    facts = read_gguf(first)
    assert facts.parameters == 4 * 64 * 3
    assert facts.weights_bytes == 4 * 6 * 34
    assert facts.bits_per_weight == 8.5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"GG", "not a GGUF"),
        (b"PK\x03\x04" + b"\0" * 100, "not a GGUF"),
        (b"GGUF", "truncated or corrupt"),
        (gguf(version=1), "version 1 is not known"),
        (gguf(version=0x03000000), "big-endian"),
        (gguf(kind=99), "unsupported quantization"),
        (gguf(kind=12), "has the shape"),  # Q4_K needs rows of 256
        (gguf(cut=1), "truncated: its tensors end"),
        (gguf(cut=430), "truncated"),
        (gguf({**METADATA, "general.alignment": 3}), "general.alignment"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1), "it claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 32, "no tensors"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**62), "ends inside"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + string("k") + struct.pack("<I", 77), "type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + string("k") + struct.pack("<IIQ", 9, 8, 2**60), "ends inside"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + string("k") + struct.pack("<IIQ", 9, 9, 1), "array of type 9"),
    ],
)
def test_each_kind_of_damage_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    """One line with the file's name and what to do."""
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=says) as caught:
        read_gguf(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_and_cuts_never_crash_or_hang(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever is changed, the reader ends in a header or in BadGguf, within the file's own size of work."""
    content = bytearray(gguf())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    path = tmp_path / "x.gguf"
    path.write_bytes(bytes(content[:length]))
    try:
        header = read_header(path)
    except BadGguf:
        return
    assert header.data_offset + max(one.offset + one.size_bytes for one in header.tensors) <= length


def test_noise_is_refused(tmp_path: Path) -> None:
    """Also noise that begins as a GGUF file does."""
    rng = random.Random(5)
    for _ in range(200):
        path = tmp_path / "x.gguf"
        path.write_bytes(b"GGUF" + struct.pack("<I", 3) + rng.randbytes(rng.randrange(400)))
        with pytest.raises(BadGguf):
            read_header(path)
