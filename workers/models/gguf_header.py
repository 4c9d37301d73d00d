"""Reads the header of a GGUF file and nothing else: metadata, the list of tensors, where their data must end.

Every count and length is checked against the file before it is believed, so that a truncated, corrupt or hostile file
ends in one line, never in a crash of the runtime that would read it next. Format: ggml's docs/gguf.md.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_ENTRIES = 65_536
"""Metadata pairs and tensors a file may have; the largest models have a few thousand."""
KEPT_ARRAY = 4096
"""Arrays up to this length are returned; longer ones (vocabularies) are only measured."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

BLOCKS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""ggml tensor types: name, weights of a block, bytes of a block (ggml.h; gguf.constants.GGML_QUANT_SIZES)."""


class BadGguf(ValueError):
    """What is wrong with the file, without its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor as the header lists it."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int  # from the start of the data
    size_bytes: int

    @property
    def weights(self) -> int:
        """How many numbers it holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything before the tensors' data. ``raw`` has the bytes of every array that was not kept, by key."""

    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    raw: Mapping[str, bytes]
    data_offset: int

    @property
    def weights_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Of all tensors."""
        return sum(tensor.weights for tensor in self.tensors)


def read_header(path: Path, *, keep_raw: tuple[str, ...] = ()) -> Header:
    """The header of ``path``. Raises BadGguf, or OSError when it cannot be read at all."""
    size = path.stat().st_size
    if size == 0:
        raise BadGguf("the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(data, size, frozenset(keep_raw)).header()


class _Reader:
    """A cursor over the file; reading past its end is an error that says where."""

    def __init__(self, data: mmap.mmap, size: int, keep_raw: frozenset[str]) -> None:
        self._data = data
        self._size = size
        self._at = 0
        self._keep_raw = keep_raw
        self._raw: dict[str, bytes] = {}

    def header(self) -> Header:
        magic = self._data[:4]
        if magic != MAGIC:
            raise BadGguf(f"not a GGUF file (it starts with {magic!r})")
        self._at = 4
        version = self._number("I")
        if version not in VERSIONS:
            big = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
            raise BadGguf("made for big-endian machines" if big else f"GGUF version {version} is not known")
        tensor_count, pair_count = self._count("tensors"), self._count("metadata entries")
        metadata = dict(self._pair() for _ in range(pair_count))
        alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8 or alignment > 2**20:
            raise BadGguf(f"corrupt: its {ALIGNMENT_KEY} is {alignment!r}")
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        data_offset = -(-self._at // alignment) * alignment
        self._check(tensors, data_offset, alignment)
        return Header(version=version, metadata=metadata, tensors=tensors, raw=self._raw, data_offset=data_offset)

    def _check(self, tensors: tuple[Tensor, ...], data_offset: int, alignment: int) -> None:
        if not tensors:
            raise BadGguf("it has no tensors (a vocabulary alone?)")
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise BadGguf("corrupt: two tensors have one name")
        astray = next((tensor for tensor in tensors if tensor.offset % alignment), None)
        if astray is not None:
            raise BadGguf(f"corrupt: tensor {astray.name!r} is not aligned")
        end = data_offset + max(tensor.offset + tensor.size_bytes for tensor in tensors)
        if end > self._size:
            raise BadGguf(f"truncated: its tensors end at byte {end}, the file at {self._size}")

    # ------------------------------------------------------------ pieces

    def _pair(self) -> tuple[str, Any]:
        key = self._string("a metadata key")
        kind = self._number("I")
        if kind == _ARRAY:
            return key, self._array(key)
        if kind == _STRING:
            return key, self._string(key)
        return key, self._scalar(kind, key)

    def _array(self, key: str) -> Any:
        kind, count = self._number("I"), self._number("Q")
        start = self._at
        if kind == _STRING:
            self._room(8 * count, key)
            values: Any = None
            if count <= KEPT_ARRAY:
                values = [self._string(key) for _ in range(count)]
            else:
                self._skip(count, key)
        else:
            code = _SCALARS.get(kind)
            if code is None:
                raise BadGguf(f"corrupt: {key!r} is an array of type {kind}, which does not exist")
            length = struct.calcsize(f"<{code}")
            self._room(length * count, key)
            values = None
            if count <= KEPT_ARRAY:
                values = list(struct.unpack_from(f"<{count}{code}", self._data, self._at))
            self._at += length * count
        if key in self._keep_raw:
            self._raw[key] = self._data[start : self._at]
        return values

    def _skip(self, count: int, key: str) -> None:
        """Past so many strings: a vocabulary of 250,000 takes a tenth of a second."""
        data, at, size = self._data, self._at, self._size
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                raise self._ends(key)
            at += 8 + unpack(data, at)[0]
            if at > size:
                raise self._ends(key)
        self._at = at

    def _tensor(self) -> Tensor:
        name = self._string("a tensor's name")
        dimensions = self._number("I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise BadGguf(f"corrupt: tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        kind, offset = self._number("I"), self._number("Q")
        if kind not in BLOCKS:
            raise BadGguf(
                f"tensor {name!r} has the type {kind}, which this version does not know: an unsupported quantization"
            )
        label, block_weights, block_bytes = BLOCKS[kind]
        count = 1
        for length in shape:
            count *= length
        if not 0 < count < 2**48 or shape[0] % block_weights:
            raise BadGguf(f"corrupt: tensor {name!r} of type {label} has the shape {shape}")
        size_bytes = count // block_weights * block_bytes
        return Tensor(name=name, shape=shape, type=label, offset=offset, size_bytes=size_bytes)

    def _scalar(self, kind: int, key: str) -> Any:
        code = _SCALARS.get(kind)
        if code is None:
            raise BadGguf(f"corrupt: {key!r} has type {kind}, which does not exist")
        return self._number(code, key)

    def _string(self, what: str) -> str:
        length = self._number("Q", what)
        self._room(length, what)
        text = self._data[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", "replace")

    def _count(self, what: str) -> int:
        count: int = self._number("Q")
        if count > MAX_ENTRIES:
            raise BadGguf(f"corrupt: it claims {count} {what}")
        return count

    def _number(self, code: str, what: str = "the header") -> Any:
        length = struct.calcsize(f"<{code}")
        self._room(length, what)
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += length
        return value

    def _room(self, length: int, what: str) -> None:
        if length > self._size - self._at:
            raise self._ends(what)

    def _ends(self, what: str) -> BadGguf:
        return BadGguf(f"truncated or corrupt: the file ends inside {what!r}, at byte {self._size}")
