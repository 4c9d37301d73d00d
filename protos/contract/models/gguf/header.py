"""Reads the header of a GGUF file and nothing else: its fields, the list of its tensors, where their data must end.

Every count and length is checked against the file before it is believed, so that a truncated, corrupt or hostile file
ends in one line, never in a crash of the runtime that would read it next. Format: ggml's docs/gguf.md; limits are those
of ggml's own reader (``gguf.cpp``) where it has them.
"""

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn

from protos.contract.models.errors import AGAIN, BadModelFile
from protos.contract.models.gguf.types import TENSOR_TYPES, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_ENTRIES = 65_536
"""Fields and tensors a file may have; the largest models have a few thousand."""
MAX_NAME_BYTES = 65_535
"""Of a field's or tensor's name (docs/gguf.md)."""
MAX_ARRAY_KEPT = 4096
"""Numbers of an array that is kept: one for each layer at most. Vocabularies are only measured."""
MAX_TEXT_KEPT = 1 << 20
"""Bytes of a text that is kept; chat templates have some ten thousand."""
MAX_KEPT_BYTES = 64 << 20
"""Of all texts and arrays together."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9

Scalar = int | float | bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A value that was passed over: an array of texts or of very many numbers, or a very long text."""

    count: int


Field = Scalar | str | tuple[Scalar, ...] | Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor as the header lists it."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int  # from the start of the data

    @property
    def weights(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        return self.weights // self.type.block_weights * self.type.block_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Everything before the tensors' data. A part of a split model may have fields alone, or tensors alone."""

    version: int
    fields: Mapping[str, Field]
    tensors: tuple[Tensor, ...]
    data_offset: int

    @property
    def weights_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Of all tensors."""
        return sum(tensor.weights for tensor in self.tensors)


def read_header(path: Path) -> GgufHeader:
    """The header of ``path``. Raises BadModelFile: missing, not GGUF, truncated, corrupt."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise BadModelFile(path, "not a GGUF file: it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except OSError as error:
        raise BadModelFile(path, f"cannot be read ({error.strerror or error})", "check the path") from None


class _Reader:
    """A cursor over the file; reading past its end is an error that says where."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._size = len(data)
        self._at = 0
        self._kept = 0

    def header(self) -> GgufHeader:
        magic = self._data[:4]
        if magic != MAGIC:
            self._fail(f"not a GGUF file (it starts with {magic!r})", "a model's file is needed")
        self._at = 4
        version = int(self._number("I"))
        if version not in VERSIONS:
            big = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
            self._fail("made for big-endian machines" if big else f"GGUF version {version} is not known")
        tensor_count, field_count = self._count("tensors"), self._count("fields")
        fields = dict(self._field() for _ in range(field_count))
        alignment = fields.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            self._fail(f"corrupt: its {ALIGNMENT_KEY} is {str(alignment)[:60]!r}, not a power of two")
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        data_offset = -(-self._at // alignment) * alignment
        self._check(tensors, data_offset, alignment)
        return GgufHeader(version=version, fields=fields, tensors=tensors, data_offset=data_offset)

    def _check(self, tensors: tuple[Tensor, ...], data_offset: int, alignment: int) -> None:
        if len({tensor.name for tensor in tensors}) != len(tensors):
            self._fail("corrupt: two tensors have one name")
        astray = next((tensor for tensor in tensors if tensor.offset % alignment), None)
        if astray is not None:
            self._fail(f"corrupt: tensor {_shown(astray.name)} is not aligned")
        end = data_offset + max((tensor.offset + tensor.size_bytes for tensor in tensors), default=0)
        if tensors and end > self._size:
            self._fail(f"truncated: its tensors end at byte {end}, the file at {self._size}")

    # ------------------------------------------------------------ pieces

    def _field(self) -> tuple[str, Field]:
        key = self._name("a field's name")
        kind = int(self._number("I", key))
        if kind == _ARRAY:
            return key, self._array(key)
        if kind == _TEXT:
            return key, self._text(key)
        return key, self._number(self._code(kind, key), key)

    def _array(self, key: str) -> Field:
        kind, count = int(self._number("I", key)), int(self._number("Q", key))
        if kind == _TEXT:
            self._room(8 * count, key)
            self._pass_texts(count, key)
            return Measured(count)
        code = self._code(kind, key)
        length = struct.calcsize(f"<{code}") * count
        self._room(length, key)
        at, self._at = self._at, self._at + length
        if count > MAX_ARRAY_KEPT:
            return Measured(count)
        self._keep(length)
        return struct.unpack_from(f"<{count}{code}", self._data, at)

    def _pass_texts(self, count: int, key: str) -> None:
        """Past so many texts: a vocabulary of 250,000 takes a tenth of a second."""
        data, at, size = self._data, self._at, self._size
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                self._ends(key)
            at += 8 + unpack(data, at)[0]
            if at > size:
                self._ends(key)
        self._at = at

    def _tensor(self) -> Tensor:
        name = self._name("a tensor's name")
        dimensions = int(self._number("I", name))
        if not 0 < dimensions <= MAX_DIMENSIONS:
            self._fail(f"corrupt: tensor {_shown(name)} has {dimensions} dimensions")
        shape = tuple(int(self._number("Q", name)) for _ in range(dimensions))
        kind, offset = int(self._number("I", name)), int(self._number("Q", name))
        known = TENSOR_TYPES.get(kind)
        if known is None:
            self._fail(f"tensor {_shown(name)} has the type {kind}, not known here: an unsupported quantization")
        if not 0 < prod(shape) < 2**48 or shape[0] % known.block_weights:
            self._fail(f"corrupt: tensor {_shown(name)} of type {known.name} has the shape {shape}")
        return Tensor(name=name, shape=shape, type=known, offset=offset)

    def _code(self, kind: int, key: str) -> str:
        code = _SCALARS.get(kind)
        if code is None:
            self._fail(f"corrupt: field {_shown(key)} has type {kind}, which does not exist")
        return code

    def _name(self, what: str) -> str:
        length = int(self._number("Q", what))
        self._room(length, what)
        if length > MAX_NAME_BYTES:
            self._fail(f"corrupt: {what} has {length} bytes")
        return self._decoded(length, what)

    def _text(self, key: str) -> str | Measured:
        length = int(self._number("Q", key))
        if length <= MAX_TEXT_KEPT:
            return self._decoded(length, key)
        self._room(length, key)
        self._at += length
        return Measured(length)

    def _decoded(self, length: int, what: str) -> str:
        self._room(length, what)
        self._keep(length)
        text = self._data[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", "replace")

    def _count(self, what: str) -> int:
        count = int(self._number("Q"))
        if count > MAX_ENTRIES:
            self._fail(f"corrupt: it claims {count} {what}")
        return count

    def _number(self, code: str, what: str = "the header") -> Scalar:
        length = struct.calcsize(f"<{code}")
        self._room(length, what)
        value: Scalar = struct.unpack_from(f"<{code}", self._data, self._at)[0]
        self._at += length
        return value

    def _keep(self, length: int) -> None:
        self._kept += length
        if self._kept > MAX_KEPT_BYTES:
            self._fail(f"corrupt: its header holds more than {MAX_KEPT_BYTES >> 20} MiB of texts and numbers")

    def _room(self, length: int, what: str) -> None:
        if length > self._size - self._at:
            self._ends(what)

    def _ends(self, what: str) -> NoReturn:
        self._fail(f"truncated or corrupt: the file ends inside {_shown(what)}, at byte {self._size}")

    def _fail(self, problem: str, remedy: str = AGAIN) -> NoReturn:
        raise BadModelFile(self._path, problem, remedy)


def _shown(name: str) -> str:
    """A name from the file, fit for one line of an error."""
    return repr("".join(letter if letter.isprintable() else "?" for letter in name)[:80])
