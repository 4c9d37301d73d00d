"""The GGUF header reader believes nothing: whatever the bytes, it ends in a header or in one line."""

import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.header import MAX_ARRAY_KEPT, MAX_TEXT_KEPT, Measured, read_header
from tests.support.gguf_files import LLAMA, WEIGHTS, gguf_bytes

WHOLE = gguf_bytes({**LLAMA, "llama.attention.head_count_kv": [2, 2, 0, 2], "general.alignment": 32})


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def begun(*parts: bytes, tensors: int = 1, fields: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + b"".join(parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.gguf"


def test_fields_and_tensors_are_read(path: Path) -> None:
    """Numbers and texts as they stand, arrays of numbers entry by entry, arrays of texts by their length."""
    path.write_bytes(WHOLE)
    header = read_header(path)
    assert header.version == 3
    assert header.fields["general.name"] == "Tiny"
    assert header.fields["llama.attention.head_count_kv"] == (2, 2, 0, 2)
    assert header.fields["tokenizer.ggml.scores"] == (0.5, 0.5, 0.5)
    assert header.fields["tokenizer.ggml.tokens"] == Measured(3)
    assert [(one.name, one.shape, one.type.name, one.size_bytes) for one in header.tensors] == [
        ("token_embd.weight", (64, 3), "F16", 384),
        ("blk.0.ffn_up.weight", (256, 2), "Q4_K", 288),
    ]
    assert (header.parameters, header.weights_bytes) == (192 + 512, 384 + 288)
    assert header.data_offset + 384 + 288 == len(WHOLE)


@pytest.mark.parametrize("tensors", [(), WEIGHTS])
@pytest.mark.parametrize("fields", [{}, LLAMA])
def test_a_part_of_a_split_model_may_lack_fields_or_tensors(
    path: Path, fields: dict[str, object], tensors: tuple[tuple[str, tuple[int, ...], int, int], ...]
) -> None:
    """gguf-split writes a first part with the fields alone, and others with tensors alone."""
    path.write_bytes(gguf_bytes(fields, tensors))
    header = read_header(path)
    assert (len(header.fields), len(header.tensors)) == (len(fields), len(tensors))


def test_every_type_that_ggml_has_is_known_and_those_it_removed_are_not(path: Path) -> None:
    """Type 41, Q1_0: 18 bytes for 128 weights."""
    path.write_bytes(gguf_bytes(LLAMA, (("w", (128, 2), 41, 36),)))
    assert read_header(path).weights_bytes == 36
    path.write_bytes(gguf_bytes(LLAMA, (("w", (128, 2), 31, 144),)))
    with pytest.raises(BadModelFile, match="type 31, not known here: an unsupported quantization"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF file: it is empty"),
        (b"GG", "not a GGUF"),
        (b"PK\x03\x04" + b"\0" * 100, "not a GGUF"),
        (b"GGUF", "truncated or corrupt"),
        (gguf_bytes(version=1), "version 1 is not known"),
        (gguf_bytes(version=0x03000000), "big-endian"),
        (gguf_bytes(LLAMA, (("w", (64, 3), 99, 4),)), "type 99, not known here: an unsupported quantization"),
        (gguf_bytes(LLAMA, (("w", (64, 3), 12, 4),)), "has the shape"),  # Q4_K needs rows of 256
        (gguf_bytes(LLAMA, (("w", (1 << 40, 1 << 20), 0, 4),)), "has the shape"),
        (gguf_bytes(LLAMA, (("w", (1 << 30,), 0, 4),)), "truncated: its tensors end"),
        (gguf_bytes(LLAMA, WEIGHTS[:1] * 2), "two tensors have one name"),
        (WHOLE[:-1], "truncated: its tensors end"),
        (WHOLE[:300], "the file ends inside"),
        (gguf_bytes({**LLAMA, "general.alignment": 3}), "general.alignment is '3', not a power of two"),
        (gguf_bytes({**LLAMA, "general.alignment": True}), "general.alignment is 'True'"),
        (begun(tensors=2**63), "it claims"),
        (begun(fields=2**40), "it claims"),
        (begun(struct.pack("<Q", 2**62)), "ends inside"),
        (begun(struct.pack("<Q", 70_000), bytes(80_000)), "a field's name has 70000 bytes"),
        (begun(text("k"), struct.pack("<I", 77)), "field 'k' has type 77"),
        (begun(text("a\nb"), struct.pack("<I", 77)), r"field 'a\?b' has type 77"),
        (begun(text("k"), struct.pack("<IIQ", 9, 8, 2**60)), "ends inside"),
        (begun(text("k"), struct.pack("<IIQ", 9, 10, 2**60)), "ends inside"),
        (begun(text("k"), struct.pack("<IIQ", 9, 9, 1)), "field 'k' has type 9"),
    ],
)
def test_each_kind_of_damage_is_named(content: bytes, says: str, path: Path) -> None:
    """One line with the file's name and what to do."""
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=says) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"; {caught.value.remedy}")


def test_what_is_no_file_is_one_line_too(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for place in (tmp_path / "gone.gguf", tmp_path):
        with pytest.raises(BadModelFile, match=r"cannot be read \(.*\); check the path"):
            read_header(place)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_and_cuts_never_crash_or_hang(data: st.DataObject, path: Path) -> None:
    """Whatever is changed, the reader ends in a header whose tensors the file holds, or in BadModelFile."""
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    path.write_bytes(bytes(content[:length]))
    try:
        header = read_header(path)
    except BadModelFile as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
        return
    assert all(header.data_offset + one.offset + one.size_bytes <= length for one in header.tensors)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(WHOLE) - 8), number=st.integers(0, 2**64 - 1))
def test_no_number_in_a_header_makes_the_reader_allocate(place: int, number: int, path: Path) -> None:
    """A length or a count of any size, anywhere: what is taken stays within what a small file can hold."""
    path.write_bytes(WHOLE[:place] + struct.pack("<Q", number) + WHOLE[place + 8 :])
    tracemalloc.start()
    try:
        read_header(path)
    except BadModelFile:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 20


def test_long_values_are_measured_and_not_kept(path: Path) -> None:
    """A vocabulary's scores, a text without end: their lengths are known, the file's size is no bound of memory."""
    numbers, long = [0] * (MAX_ARRAY_KEPT + 1), "x" * (MAX_TEXT_KEPT + 1)
    path.write_bytes(gguf_bytes({**LLAMA, "numbers": numbers, "long": long, "after": 7}))
    fields = read_header(path).fields
    assert (fields["numbers"], fields["long"], fields["after"]) == (Measured(len(numbers)), Measured(len(long)), 7)


def test_very_many_texts_are_no_header(path: Path) -> None:
    """Each is short enough to be kept, all together are not."""
    path.write_bytes(gguf_bytes({f"text.{number}": "x" * MAX_TEXT_KEPT for number in range(65)}))
    with pytest.raises(BadModelFile, match="more than 64 MiB of texts and numbers"):
        read_header(path)


def test_noise_is_refused(path: Path) -> None:
    """Also noise that begins as a GGUF file does."""
    rng = random.Random(5)
    for _ in range(200):
        path.write_bytes(b"GGUF" + struct.pack("<I", 3) + rng.randbytes(rng.randrange(400)))
        with pytest.raises(BadModelFile):
            read_header(path)
